-- A version that passed the gate and answers a share of new sessions first; a person's or a test's word ends it.
CREATE TABLE canaries (
    agent TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    share REAL NOT NULL CHECK (share > 0 AND share < 1),
    since REAL NOT NULL,
    FOREIGN KEY (agent, version) REFERENCES versions (agent, version)
) STRICT, WITHOUT ROWID;
