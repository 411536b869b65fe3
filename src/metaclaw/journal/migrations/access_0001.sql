-- access.db: who may use the gateway, and what they have used. Written by the command line (tokens) and the gateway
-- (usage). Times are Unix seconds.

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,             -- SHA-256 of the token, which itself is nowhere
    agent TEXT,                              -- the one agent that it may be; NULL: any
    requests_per_minute INTEGER,             -- these four: NULL is no limit
    tokens_per_day INTEGER,
    usd_per_month REAL,
    max_concurrent INTEGER,
    created_at REAL NOT NULL,
    revoked_at REAL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tokens_in_use ON tokens (name) WHERE revoked_at IS NULL;

-- What counts against the limits, of each token and of the owner's.
CREATE TABLE usage (
    token TEXT PRIMARY KEY,
    admitted BLOB NOT NULL,                  -- little-endian float64: when the requests of the last minute came
    day TEXT NOT NULL,                       -- UTC, 2026-11-25
    day_requests INTEGER NOT NULL,
    day_tokens INTEGER NOT NULL,
    month TEXT NOT NULL,                     -- UTC, 2026-11
    month_tokens INTEGER NOT NULL,
    month_usd REAL NOT NULL
) STRICT, WITHOUT ROWID;
