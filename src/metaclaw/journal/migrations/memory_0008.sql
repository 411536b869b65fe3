-- How the user wants things done, whatever they ask: told in every conversation, not only where its words fit.
ALTER TABLE units ADD COLUMN standing INTEGER NOT NULL DEFAULT 0 CHECK (standing IN (0, 1));
CREATE INDEX units_standing ON units (agent) WHERE standing = 1;
