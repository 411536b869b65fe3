-- turns.db, written by the gateway alone. Times are Unix seconds. Hashes are SHA-256 (32 bytes).

-- A message as the client sent it (canonical JSON), stored once however often it is sent again.
CREATE TABLE messages (
    hash BLOB PRIMARY KEY,
    role TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A history is a chain: hash(parent, message). Clients resend all of it; only new links are new rows.
CREATE TABLE links (
    hash BLOB PRIMARY KEY,
    parent BLOB REFERENCES links (hash),
    message BLOB NOT NULL REFERENCES messages (hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE turns (
    seq INTEGER PRIMARY KEY,                 -- order of opening; readers page by it
    id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    exchange TEXT NOT NULL,                  -- groups the turns of one human message
    kind TEXT NOT NULL CHECK (kind IN ('main', 'side')),
    dialect TEXT NOT NULL,
    model TEXT NOT NULL,                     -- as the client asked
    upstream TEXT NOT NULL,                  -- 'policy' or the upstream's name
    request TEXT NOT NULL,                   -- JSON: the body without its messages
    head BLOB REFERENCES links (hash),       -- the history that was sent, without what was recalled
    recalled TEXT NOT NULL DEFAULT '[]',     -- JSON list: names of what was recalled for this exchange
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'failed', 'cut')),
    answer BLOB REFERENCES messages (hash),
    finish_reason TEXT,
    status INTEGER,
    error TEXT,
    usage TEXT,                              -- JSON
    opened_at REAL NOT NULL,
    first_byte_at REAL,
    closed_at REAL
) STRICT;
CREATE INDEX turns_by_session ON turns (agent, session, seq);
CREATE INDEX turns_by_exchange ON turns (exchange, seq);
CREATE INDEX turns_open ON turns (state) WHERE state = 'open';

-- What the policy's sampler really saw and drew. Arrays are little-endian int32 / float32 BLOBs.
CREATE TABLE samples (
    turn TEXT PRIMARY KEY REFERENCES turns (id),
    agent TEXT NOT NULL,
    version INTEGER NOT NULL,                -- the agent's policy version; 0 is the base model
    model TEXT NOT NULL,                     -- the exact name that the training server was asked for
    prompt_tokens BLOB NOT NULL,
    tokens BLOB NOT NULL,
    logprobs BLOB NOT NULL,                  -- as sampled: after temperature and truncation
    logprobs_full BLOB NOT NULL,             -- at temperature 1 over the full vocabulary
    temperature REAL NOT NULL,
    top_p REAL NOT NULL,
    top_k INTEGER NOT NULL,                  -- -1 is off
    seed INTEGER,
    stop_reason TEXT NOT NULL,
    spans TEXT NOT NULL,                     -- JSON list of [kind, start, end) over tokens
    renderer TEXT NOT NULL,                  -- hash of tokenizer and chat template
    untrainable TEXT                         -- why it must not be trained on; NULL: it may
) STRICT, WITHOUT ROWID;

-- What was recalled for a human message: written once, attached identically ever after.
CREATE TABLE recall_blocks (
    agent TEXT NOT NULL,
    key BLOB NOT NULL,                       -- hash of the human message and of the answer before it
    occurrence INTEGER NOT NULL,             -- the same message said again later in one history
    turn TEXT NOT NULL,
    text TEXT NOT NULL,                      -- '' when nothing fitted
    items TEXT NOT NULL,                     -- JSON list of names
    created_at REAL NOT NULL,
    PRIMARY KEY (agent, key, occurrence)
) STRICT, WITHOUT ROWID;

-- The policy version that a running session keeps.
CREATE TABLE pins (
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    version INTEGER NOT NULL,
    last_used_at REAL NOT NULL,
    PRIMARY KEY (agent, session)
) STRICT, WITHOUT ROWID;
