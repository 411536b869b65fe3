-- Where the vectors of units lie: in files beside this one, one for each agent and embedding model. A file is rows of
-- `width` float32 after one page; `num_rows` of them were given out, and none is ever given out again.
CREATE TABLE vector_files (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    model TEXT NOT NULL,
    width INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    num_rows INTEGER NOT NULL DEFAULT 0,
    UNIQUE (agent, model)
) STRICT;

CREATE TABLE vectors (
    file INTEGER NOT NULL,
    row INTEGER NOT NULL,
    unit INTEGER NOT NULL,                   -- units.seq
    PRIMARY KEY (file, row)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX vectors_by_unit ON vectors (unit, file);
