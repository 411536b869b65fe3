-- How far an index of another form of words is made anew: the units from this row on are in it as they are looked for.
CREATE TABLE index_progress (
    version INTEGER PRIMARY KEY,
    down_to INTEGER NOT NULL                 -- units.seq
) STRICT;
