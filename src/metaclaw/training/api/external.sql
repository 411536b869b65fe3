-- Schema 3: a third kind of checkpoint, for programs elsewhere. SQLite cannot change a check, so the table is made anew.

CREATE TABLE checkpoints_of_3_kinds (
    model_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('weights', 'sampler_weights', 'external_weights')),
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
    owner TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (model_id, kind, name)
) STRICT, WITHOUT ROWID;
INSERT INTO checkpoints_of_3_kinds SELECT
    model_id, kind, name, directory, rank, train_mlp, train_attn, train_unembed, base_digest, size_bytes, created_at,
    expires_at, is_ephemeral, is_public, metadata, deleted_at, owner
FROM checkpoints;
DROP TABLE checkpoints;
ALTER TABLE checkpoints_of_3_kinds RENAME TO checkpoints;
CREATE INDEX checkpoints_by_time ON checkpoints (created_at) WHERE deleted_at IS NULL;
CREATE INDEX checkpoints_by_owner ON checkpoints (owner, created_at) WHERE deleted_at IS NULL;
