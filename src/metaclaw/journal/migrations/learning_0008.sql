-- What each answer of a judging model took of either kind; NULL where it did not say, and for older rows.
ALTER TABLE judge_calls ADD COLUMN prompt_tokens INTEGER;
ALTER TABLE judge_calls ADD COLUMN completion_tokens INTEGER;

-- Each answer of a model that read an exchange for memories. NULL is unknown, which is not 0.
CREATE TABLE extraction_calls (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost_usd REAL,
    called_at REAL NOT NULL
) STRICT;
