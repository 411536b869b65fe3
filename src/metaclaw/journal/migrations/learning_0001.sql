-- learning.db, written by the learner alone. Times are Unix seconds. Turn ids are those of turns.db.

-- One verdict per exchange. A judge that failed leaves 'failed' and no score: that is not a reward of zero.
CREATE TABLE judgements (
    exchange TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('judged', 'failed')),
    score REAL CHECK ((state = 'judged') = (score IS NOT NULL)),
    judge TEXT NOT NULL,
    detail TEXT NOT NULL,                    -- JSON: votes, reasons
    attempts INTEGER NOT NULL DEFAULT 1,
    judged_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE updates (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    parent INTEGER NOT NULL,                 -- the version that it starts from
    state TEXT NOT NULL CHECK (state IN ('running', 'committed', 'rejected', 'aborted')),
    reason TEXT,
    metrics TEXT NOT NULL DEFAULT '{}',      -- JSON
    started_at REAL NOT NULL,
    finished_at REAL
) STRICT;

-- The state of each trainable turn. A state, never a cursor: rewards come late and out of order.
CREATE TABLE samples (
    turn TEXT PRIMARY KEY,
    exchange TEXT NOT NULL,
    agent TEXT NOT NULL,
    version INTEGER NOT NULL,                -- that sampled it
    reward REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'claimed', 'consumed', 'rejected', 'expired')),
    claimed_by INTEGER REFERENCES updates (id) CHECK ((state = 'claimed') <= (claimed_by IS NOT NULL)),
    sampled_at REAL NOT NULL,
    changed_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX samples_by_state ON samples (agent, state, sampled_at);

-- A version and its manifest are one transaction: an optimiser step alone commits nothing.
CREATE TABLE versions (
    agent TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    parent INTEGER NOT NULL,
    update_id INTEGER NOT NULL UNIQUE REFERENCES updates (id),
    base_model TEXT NOT NULL,
    state_path TEXT NOT NULL,                -- tinker:// training state with the optimiser
    sampler_path TEXT NOT NULL,              -- tinker:// weights that serve
    created_at REAL NOT NULL,
    PRIMARY KEY (agent, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE manifests (
    turn TEXT PRIMARY KEY,                   -- the key itself promises: no sample in two versions
    agent TEXT NOT NULL,
    version INTEGER NOT NULL,
    FOREIGN KEY (agent, version) REFERENCES versions (agent, version)
) STRICT, WITHOUT ROWID;

-- Which version serves an agent now; no row is the base model. `history` keeps how it came to that.
CREATE TABLE serving (
    agent TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    since REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE serving_history (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    version INTEGER NOT NULL,
    since REAL NOT NULL,
    why TEXT NOT NULL
) STRICT;

CREATE TABLE baselines (
    agent TEXT PRIMARY KEY,
    value REAL NOT NULL,
    num_rewards INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
