-- requests.db: work that a command asks the learner for. Any process may write, in short transactions.
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    agent TEXT NOT NULL,
    subject TEXT NOT NULL,
    asked_at REAL NOT NULL,
    done_at REAL,
    outcome TEXT                             -- a sentence
) STRICT;
CREATE INDEX requests_open ON requests (id) WHERE done_at IS NULL;
