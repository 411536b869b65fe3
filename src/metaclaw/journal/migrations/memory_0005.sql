-- When it was said in that turn; NULL where it was noted before this was. What is said again is one unit, said at times.
ALTER TABLE unit_turns ADD COLUMN said_at REAL;
CREATE INDEX unit_turns_by_time ON unit_turns (unit, said_at);

-- Of which form of words the index is.
CREATE TABLE index_version (version INTEGER NOT NULL) STRICT;
