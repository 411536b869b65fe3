-- Skills and memories: whom a turn was about, what was weighed for it, and where a memory's text was put.
ALTER TABLE turns ADD COLUMN user TEXT;                   -- as the client says: X-User-Id
ALTER TABLE turns ADD COLUMN workspace TEXT;              -- X-Workspace-Id
ALTER TABLE turns ADD COLUMN memory_scope TEXT;           -- X-Memory-Scope

-- Of each item of a block, where its text is: JSON list of [start, end) in characters. '[]': of an older release.
ALTER TABLE recall_blocks ADD COLUMN spans TEXT NOT NULL DEFAULT '[]';

-- Which blocks hold a memory, so that a forgotten one is found.
CREATE TABLE block_memories (
    memory TEXT NOT NULL,
    agent TEXT NOT NULL,
    key BLOB NOT NULL,
    occurrence INTEGER NOT NULL,
    PRIMARY KEY (memory, agent, key, occurrence),
    FOREIGN KEY (agent, key, occurrence) REFERENCES recall_blocks (agent, key, occurrence) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX block_memories_by_block ON block_memories (agent, key, occurrence);

-- What was weighed for a human message, by the turn that brought it: what was recalled, and what was left out and why.
-- A later turn of the exchange has its names in `turns.recalled` and no rows of its own.
CREATE TABLE recalls (
    turn TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('skill', 'memory')),
    item TEXT NOT NULL,                      -- a skill's name, a memory's id
    score REAL NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('recalled', 'present', 'number', 'budget', 'threshold')),
    PRIMARY KEY (turn, kind, item)
) STRICT, WITHOUT ROWID;
CREATE INDEX recalls_by_item ON recalls (kind, item);
