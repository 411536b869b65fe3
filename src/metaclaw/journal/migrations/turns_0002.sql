-- Where the time of a turn went, what it cost, who gave what.
ALTER TABLE turns ADD COLUMN received_at REAL;            -- its head was here
ALTER TABLE turns ADD COLUMN recall_s REAL;               -- choosing what to recall
ALTER TABLE turns ADD COLUMN queue_s REAL;                -- from its body's end to the first upstream's call, without recall
ALTER TABLE turns ADD COLUMN wait_s REAL;                 -- from the first upstream's call to the first byte
ALTER TABLE turns ADD COLUMN prompt_tokens INTEGER;       -- the usage in one form; `usage` is as it came
ALTER TABLE turns ADD COLUMN completion_tokens INTEGER;
ALTER TABLE turns ADD COLUMN cached_tokens INTEGER;       -- of the prompt's
ALTER TABLE turns ADD COLUMN reasoning_tokens INTEGER;    -- of the completion's
ALTER TABLE turns ADD COLUMN cost_usd REAL;               -- NULL: unknown, which is not 0
ALTER TABLE turns ADD COLUMN price TEXT;                  -- JSON: the price that was reckoned with
ALTER TABLE turns ADD COLUMN attempts TEXT NOT NULL DEFAULT '[]';       -- JSON list: upstreams that were tried
ALTER TABLE turns ADD COLUMN num_dropped INTEGER NOT NULL DEFAULT 0;    -- messages left out for the context limit
ALTER TABLE turns ADD COLUMN other_answers TEXT NOT NULL DEFAULT '[]';  -- JSON list: answers of n beyond the first
ALTER TABLE turns ADD COLUMN access_key TEXT;             -- the name of the key that it came with

-- For giving up old turns and what only they held.
CREATE INDEX turns_by_head ON turns (head);
CREATE INDEX turns_by_answer ON turns (answer);
CREATE INDEX links_by_parent ON links (parent);
CREATE INDEX links_by_message ON links (message);
CREATE INDEX recall_blocks_by_turn ON recall_blocks (turn);

-- Up to which byte each segment of the spool was written into this file, in the transaction that wrote it.
CREATE TABLE spool (
    segment INTEGER PRIMARY KEY,
    written INTEGER NOT NULL
) STRICT;

-- What a person thought of a turn or a session. Rows are never changed; they outlive the turns.
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    turn TEXT,                               -- NULL: of the session as a whole
    exchange TEXT,                           -- of the turn
    score REAL CHECK (score BETWEEN -1 AND 1),
    text TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL,                    -- who says so: a person, a program
    created_at REAL NOT NULL,
    CHECK (score IS NOT NULL OR text <> '')
) STRICT;
CREATE INDEX feedback_by_exchange ON feedback (exchange);
CREATE INDEX feedback_by_session ON feedback (agent, session);
