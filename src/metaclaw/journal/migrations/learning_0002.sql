-- Of a judgement's attempts, those that reached no judge: an outage says nothing about the exchange.
ALTER TABLE judgements ADD COLUMN outages INTEGER NOT NULL DEFAULT 0;

-- When the trainer was told to delete both files of a version; such a version can never serve again.
ALTER TABLE versions ADD COLUMN deleted_at REAL;
