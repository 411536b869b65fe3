-- server.db, written by the API process alone. Times are Unix seconds; metadata is JSON.

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    finished_at REAL,
    display_name TEXT,
    metadata TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE training_runs (
    model_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (session_id),
    rank INTEGER NOT NULL,
    train_mlp INTEGER NOT NULL,
    train_attn INTEGER NOT NULL,
    train_unembed INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    created_at REAL NOT NULL,
    last_request_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX training_runs_by_session ON training_runs (session_id);

-- A row appears when the directory is complete. It stays after deletion: a path never means other weights later.
CREATE TABLE checkpoints (
    model_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('weights', 'sampler_weights')),
    name TEXT NOT NULL,
    directory TEXT NOT NULL UNIQUE,
    rank INTEGER NOT NULL,
    train_mlp INTEGER NOT NULL,
    train_attn INTEGER NOT NULL,
    train_unembed INTEGER NOT NULL,
    base_digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    is_ephemeral INTEGER NOT NULL,
    is_public INTEGER NOT NULL DEFAULT 0,
    metadata TEXT NOT NULL,
    deleted_at REAL,
    PRIMARY KEY (model_id, kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX checkpoints_by_time ON checkpoints (created_at) WHERE deleted_at IS NULL;

CREATE TABLE sampling_sessions (
    sampling_session_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (session_id),
    model_id TEXT,
    name TEXT,
    CHECK ((model_id IS NULL) = (name IS NULL))
) STRICT, WITHOUT ROWID;
