-- Why an agent is not updated: 'pin' until somebody takes it away, 'cooldown' for a while after a rollback of its own.
CREATE TABLE holds (
    agent TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('pin', 'cooldown')),
    reason TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL,                              -- NULL: for ever
    PRIMARY KEY (agent, kind)
) STRICT, WITHOUT ROWID;
