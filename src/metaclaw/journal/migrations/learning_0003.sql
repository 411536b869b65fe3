-- Skills that a model wrote, from their proposal to their end. Served from files; nothing here is served but on experiment.
CREATE TABLE candidates (
    id TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    body TEXT NOT NULL,
    base TEXT,                               -- JSON: the skill that it is an edit of; NULL for a new one
    state TEXT NOT NULL CHECK (state IN ('trial', 'adopted', 'rejected', 'retired')),
    reason TEXT NOT NULL,                    -- why it is in that state
    why TEXT NOT NULL,                       -- what its author wanted
    author TEXT NOT NULL,                    -- the model
    exchanges TEXT NOT NULL,                 -- JSON list: the failures that it was written for
    turns TEXT NOT NULL,                     -- JSON list: their turns
    created_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    experiment_since REAL,                   -- served to a share of turns since then; NULL: it is not
    experiment_share REAL,
    experiment_usual REAL                    -- the mean reward before
) STRICT, WITHOUT ROWID;
CREATE INDEX candidates_by_state ON candidates (state, agent);
CREATE UNIQUE INDEX candidates_on_trial ON candidates (agent, name) WHERE state = 'trial';

-- What a candidate changed, once. An exchange says it once, whoever looks again.
CREATE TABLE comparisons (
    candidate TEXT NOT NULL REFERENCES candidates (id),
    exchange TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('replay', 'experiment')),
    fits INTEGER NOT NULL,                   -- whether the candidate would be recalled there
    with_score REAL,                         -- of the two answers of a replay; one of them in an experiment
    without_score REAL,
    void TEXT,                               -- why it says nothing; NULL: it does
    created_at REAL NOT NULL,
    PRIMARY KEY (candidate, exchange)
) STRICT, WITHOUT ROWID;

-- Each time an evolver was asked.
CREATE TABLE evolutions (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    author TEXT NOT NULL,
    num_failures INTEGER NOT NULL,
    num_candidates INTEGER NOT NULL,
    refused TEXT NOT NULL,                   -- JSON list: what of its answer was refused, and why
    error TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost_usd REAL,                           -- NULL: unknown, which is not 0
    created_at REAL NOT NULL
) STRICT;
CREATE INDEX evolutions_by_agent ON evolutions (agent, created_at);

-- Failures that an evolver has seen.
CREATE TABLE evidence (
    exchange TEXT PRIMARY KEY,
    evolution INTEGER NOT NULL REFERENCES evolutions (id)
) STRICT, WITHOUT ROWID;

-- An agent's generation rises with each adoption. That of a turn is the newest since before it was opened.
CREATE TABLE generations (
    agent TEXT NOT NULL,
    generation INTEGER NOT NULL,
    since REAL NOT NULL,
    candidate TEXT NOT NULL REFERENCES candidates (id),
    PRIMARY KEY (agent, generation)
) STRICT, WITHOUT ROWID;
ALTER TABLE samples ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

-- Which exchange was given which skill: kept for ever, also where its turns are given up.
CREATE TABLE recalls (
    skill TEXT NOT NULL,
    exchange TEXT NOT NULL,
    agent TEXT NOT NULL,
    seq INTEGER NOT NULL,                    -- of its first turn
    recalled_at REAL NOT NULL,
    PRIMARY KEY (skill, exchange)
) STRICT, WITHOUT ROWID;
CREATE INDEX recalls_by_agent ON recalls (agent, skill);
CREATE INDEX recalls_by_seq ON recalls (seq);
