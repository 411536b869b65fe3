-- Each pair of files that we have at a trainer, written down before the first of them is saved: so that a process which
-- is killed meanwhile leaves nothing there that nobody knows of.
CREATE TABLE saved_weights (
    name TEXT PRIMARY KEY,                   -- that they are saved under; nobody has used it before
    agent TEXT NOT NULL,
    run TEXT NOT NULL,                       -- the trainer's own name of what they are saved from
    state_path TEXT,                         -- NULL: it is not known whether they were saved, or where
    sampler_path TEXT,
    begun_at REAL NOT NULL,
    unowned_since REAL,                      -- NULL: a version has them, or an update that runs
    num_deleted INTEGER NOT NULL DEFAULT 0,  -- files
    gone_at REAL                             -- NULL: they are there, or may be
) STRICT, WITHOUT ROWID;
CREATE INDEX saved_weights_to_delete ON saved_weights (unowned_since) WHERE unowned_since IS NOT NULL AND gone_at IS NULL;

-- Older releases forgot at their end what they had not deleted yet: whatever a version gave up is deleted once more.
INSERT INTO saved_weights (name, agent, run, state_path, sampler_path, begun_at, unowned_since)
SELECT sampler_path, agent, '', state_path, sampler_path, created_at, deleted_at FROM versions
WHERE true ON CONFLICT (name) DO NOTHING;
