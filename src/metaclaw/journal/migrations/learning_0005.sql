-- What the answers of a replay took. NULL: unknown, which is not 0; an experiment asks nobody.
ALTER TABLE comparisons ADD COLUMN prompt_tokens INTEGER;
ALTER TABLE comparisons ADD COLUMN completion_tokens INTEGER;
ALTER TABLE comparisons ADD COLUMN cost_usd REAL;
