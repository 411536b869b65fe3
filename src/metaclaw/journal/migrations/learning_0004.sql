-- The rule by which a pending sample was given up; NULL for all others, and for those of older releases.
ALTER TABLE samples ADD COLUMN excluded_by TEXT;
