-- memory/units.db: what is remembered. Written by the learner, the gateway's routes and the command line, each in short
-- transactions. Times are Unix seconds.

CREATE TABLE units (
    seq INTEGER PRIMARY KEY,                 -- also the row of the index
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN
        ('episodic', 'semantic', 'preference', 'project_state', 'working_summary', 'procedural')),
    text TEXT NOT NULL,
    agent TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('user', 'agent', 'workspace', 'session')),
    user TEXT,
    workspace TEXT,
    session TEXT,
    subject TEXT NOT NULL,                   -- what a contradiction would be about; '' is nothing
    source TEXT NOT NULL CHECK (source IN ('user', 'tool', 'outcome', 'import', 'manual')),
    trust REAL NOT NULL CHECK (trust BETWEEN 0 AND 1),
    confidence REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    said_at REAL NOT NULL,
    true_from REAL,
    true_until REAL,
    superseded_by TEXT,                      -- the unit that took its place
    digest BLOB NOT NULL,                    -- of scope, owner, kind and words: one thing is remembered once
    created_at REAL NOT NULL,
    CHECK (scope <> 'user' OR user IS NOT NULL),
    CHECK (scope <> 'workspace' OR workspace IS NOT NULL),
    CHECK (scope <> 'session' OR session IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX units_once ON units (digest) WHERE superseded_by IS NULL;
CREATE INDEX units_by_subject ON units (agent, subject, kind) WHERE subject <> '' AND superseded_by IS NULL;
CREATE INDEX units_by_agent ON units (agent, said_at);
CREATE INDEX units_by_session ON units (agent, session) WHERE session IS NOT NULL;
CREATE INDEX units_by_said ON units (said_at);

-- The turns that a unit was learned from.
CREATE TABLE unit_turns (
    unit TEXT NOT NULL,
    turn TEXT NOT NULL,
    PRIMARY KEY (unit, turn)
) STRICT, WITHOUT ROWID;
CREATE INDEX unit_turns_by_turn ON unit_turns (turn);

-- How often a unit was recalled. Beside the units, so that a read changes nothing of what is known.
CREATE TABLE uses (
    unit TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    last_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The index. `owner` is one word, so that other agents' units are never even scored; `body` is of words of ours, so that
-- scripts without spaces work.
CREATE VIRTUAL TABLE words USING fts5(owner, body, tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'");

-- What was forgotten, without what it said: so that it is not learned again from the same turns.
CREATE TABLE forgotten (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    agent TEXT NOT NULL,
    turns TEXT NOT NULL,                     -- JSON list
    why TEXT NOT NULL,
    forgotten_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX forgotten_by_digest ON forgotten (digest);

-- Which exchanges were read for memories: in the transaction that wrote what was found.
CREATE TABLE extracted (
    exchange TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    turns TEXT NOT NULL,                     -- JSON list
    num_units INTEGER NOT NULL,
    detail TEXT NOT NULL,                    -- JSON: what was left out, by the rule that left it out
    extracted_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX extracted_by_session ON extracted (agent, session);

-- What was made of which turns elsewhere: skills, policy versions. Forgetting marks them.
CREATE TABLE descendants (
    kind TEXT NOT NULL,                      -- 'skill', 'policy'
    name TEXT NOT NULL,
    turn TEXT NOT NULL,
    marked_at REAL,                          -- since when its origin is forgotten
    PRIMARY KEY (kind, name, turn)
) STRICT, WITHOUT ROWID;

-- In how many units a word is, for leaving out what is in most of them.
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, 'row');
