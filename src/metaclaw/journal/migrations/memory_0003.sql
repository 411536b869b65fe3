-- Exchanges that did not pass through the gateway: told over HTTP, and gone from here once they were read for memories.
CREATE TABLE buffered (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,                 -- of the agent, the session and what was said: told twice, it is here once
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    user TEXT,
    workspace TEXT,
    memory_scope TEXT,
    prompt TEXT NOT NULL,
    response TEXT NOT NULL,
    said_at REAL NOT NULL
) STRICT;
CREATE INDEX buffered_by_session ON buffered (agent, session);

-- Somebody wants a session (NULL: all of the agent's) read for memories now.
CREATE TABLE readings (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    session TEXT,
    asked_at REAL NOT NULL,
    done_at REAL,
    num_added INTEGER,
    num_sessions INTEGER
) STRICT;
CREATE INDEX readings_open ON readings (id) WHERE done_at IS NULL;
