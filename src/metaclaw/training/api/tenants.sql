-- Schema 2: whose everything is. The owner is a key's id; '' is the server's own key, to which belongs what was there
-- before there were others. A row's owner never changes, and is its session's.

-- A key is 256 random bits, so its plain SHA-256 cannot be searched for; a slow hash is for passwords.
CREATE TABLE keys (
    key_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    is_admin INTEGER NOT NULL,
    max_models INTEGER,
    max_bytes INTEGER,
    max_requests INTEGER,
    created_at REAL NOT NULL,
    revoked_at REAL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX keys_by_name ON keys (name) WHERE revoked_at IS NULL;

ALTER TABLE sessions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE INDEX sessions_by_owner ON sessions (owner, created_at);
CREATE INDEX sessions_by_time ON sessions (seen_at);
ALTER TABLE training_runs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE INDEX training_runs_by_owner ON training_runs (owner, created_at);
ALTER TABLE checkpoints ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE INDEX checkpoints_by_owner ON checkpoints (owner, created_at) WHERE deleted_at IS NULL;
ALTER TABLE sampling_sessions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE INDEX sampling_sessions_by_session ON sampling_sessions (session_id);
