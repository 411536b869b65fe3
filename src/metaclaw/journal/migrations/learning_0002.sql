-- Of a judgement's attempts, those that reached no judge: an outage says nothing about the exchange.
ALTER TABLE judgements ADD COLUMN outages INTEGER NOT NULL DEFAULT 0;

-- Since when both files of a version are given up: the trainer is told to delete them, and it can never serve again.
ALTER TABLE versions ADD COLUMN deleted_at REAL;
