-- What descends from a turn is known from learning.db itself: candidates have their turns, versions their manifests.
DROP TABLE descendants;

-- Since when no page of this file and no page of its log can hold what was forgotten; NULL: not yet.
ALTER TABLE forgotten ADD COLUMN cleared_at REAL;

-- Copies that were made of the store: forgetting cannot reach them, so whoever asks is told of them.
CREATE TABLE copies (
    path TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('backup', 'export')),
    made_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
