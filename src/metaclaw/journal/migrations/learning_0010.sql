-- What each answer of a teacher elsewhere took; NULL where it did not say. What it did not say is estimated in `tokens`.
CREATE TABLE teacher_calls (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    teacher TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    is_estimate INTEGER NOT NULL,
    cost_usd REAL,
    called_at REAL NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER
) STRICT;
CREATE INDEX teacher_calls_by_time ON teacher_calls (called_at);

-- What a teacher said of a turn that an update had, and how far the update moved it; both are nats per token, of the
-- tokens that were drawn. NULL: no step was made, or it cannot be told.
CREATE TABLE lessons (
    turn TEXT NOT NULL,
    method TEXT NOT NULL,
    update_id INTEGER NOT NULL REFERENCES updates (id),
    agent TEXT NOT NULL,
    teacher TEXT NOT NULL,
    num_tokens INTEGER NOT NULL,             -- that it said something of
    gap REAL,                                -- the teacher's log-probability minus the policy's before the step
    change REAL,                             -- the policy's log-probability after the step minus that before it
    PRIMARY KEY (turn, method, update_id)
) STRICT, WITHOUT ROWID;
