-- What each source said of an exchange last, whether or not it decided.
CREATE TABLE opinions (
    exchange TEXT NOT NULL,
    source TEXT NOT NULL,                    -- as in rl.judge.precedence
    agent TEXT NOT NULL,
    judge TEXT NOT NULL,
    score REAL NOT NULL,
    detail TEXT NOT NULL,                    -- JSON: votes
    given_at REAL NOT NULL,
    PRIMARY KEY (exchange, source)
) STRICT, WITHOUT ROWID;

-- Each answer of a model that judges. Tokens that it did not report are estimated; a NULL cost is unknown, which is not 0.
CREATE TABLE judge_calls (
    id INTEGER PRIMARY KEY,
    purpose TEXT NOT NULL CHECK (purpose IN ('exchange', 'pair')),
    agent TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    is_estimate INTEGER NOT NULL,
    cost_usd REAL,
    called_at REAL NOT NULL
) STRICT;
CREATE INDEX judge_calls_by_time ON judge_calls (called_at);

-- A person's score that came after the verdict, and the samples that it found: pending ones have it as their reward,
-- those of a running update get it if they are given back, and what an update has used up stays as it was trained.
CREATE TABLE late_feedback (
    feedback INTEGER PRIMARY KEY,            -- its id in turns.db
    exchange TEXT NOT NULL,
    agent TEXT NOT NULL,
    score_before REAL NOT NULL,
    score REAL NOT NULL,
    num_changed INTEGER NOT NULL,
    num_claimed INTEGER NOT NULL,
    num_spent INTEGER NOT NULL,
    noticed_at REAL NOT NULL
) STRICT;
