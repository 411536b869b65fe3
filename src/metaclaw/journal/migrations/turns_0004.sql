-- Whether pages of recall_blocks may still hold bytes of text that was taken out of it: until the table is written anew.
CREATE TABLE erasures (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    is_due INTEGER NOT NULL
) STRICT;
