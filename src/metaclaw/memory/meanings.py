"""Which units are near to a question in meaning.

Owns comparing a question's vector with those of an agent's units; refuses to know where vectors come from and what
words a unit has. Invariants: scope, trust and validity are conditions of the query that turns rows into units, so what
may not be found is never a candidate; every row is looked at, however old.

Numpy is needed: this module is loaded where an embedder is configured.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import numpy as np

from metaclaw.memory.candidates import candidates_of_file
from metaclaw.memory.query import MemoryQuery, Near
from metaclaw.memory.vector_files import VectorFile, file_for
from metaclaw.memory.vector_rows import MappedRows, Rows, mapped
from metaclaw.retrieval.vectors import Vectors

_CONSIDERED = 0.5  # of what is like enough: so near a miss is told to whoever asks why
_MOST = 0.5  # of the rows that were worth comparing: when so many are like enough, others may be too
_MAX_FILES = 64
_log = logging.getLogger(__name__)


class Meanings:
    """Finds units by the vectors that ``model`` made of them. One thread at a time may use it."""

    def __init__(self, model: str, *, min_likeness: float) -> None:
        self.model = model
        self.min_likeness = min_likeness
        self._mapped: dict[Path, MappedRows] = {}

    def asked(self, vector: Vectors) -> AskedMeaning:
        """A question whose meaning is ``vector``, of unit length."""
        return AskedMeaning(self, vector)

    def near(self, connection: sqlite3.Connection, query: MemoryQuery, vector: Vectors, *, limit: int) -> list[Near]:
        """At most ``limit`` of the units that ``query`` may see, likest first, down to half of ``min_likeness``."""
        floor = self.min_likeness * _CONSIDERED
        file = file_for(connection, query.agent, self.model)
        if file is None or file.num_rows == 0 or file.width != vector.size:
            return []
        mapped = self._rows(file)
        if mapped is None:
            return []
        vector = vector.reshape(-1)
        rows = mapped.worth_comparing(vector)
        likeness = mapped.likeness(vector, rows)
        found = _found(connection, query, file, rows, likeness, floor=floor, limit=limit)
        if rows is not None and len(found) < limit and np.count_nonzero(likeness >= floor) > _MOST * len(rows):
            # What is nearest may not be found by who asks: all the others are compared too.
            found = _found(connection, query, file, None, mapped.likeness(vector), floor=floor, limit=limit)
        return found

    def _rows(self, file: VectorFile) -> MappedRows | None:
        known = self._mapped.get(file.path)
        if known is not None and len(known.vectors) == file.num_rows:
            return known
        if not file.is_whole:
            _log.warning("%s is not whole: its memories are found by words until they are embedded anew", file.path)
            return None
        rows = mapped(file, known)
        self._mapped.pop(file.path, None)
        self._mapped[file.path] = rows
        while len(self._mapped) > _MAX_FILES:
            del self._mapped[next(iter(self._mapped))]
        return rows


class AskedMeaning:
    """What ``search`` takes."""

    def __init__(self, meanings: Meanings, vector: Vectors) -> None:
        self.min_likeness = meanings.min_likeness
        self._meanings = meanings
        self._vector = vector

    def near(self, connection: sqlite3.Connection, query: MemoryQuery, *, limit: int) -> list[Near]:
        """At most ``limit`` of the units that ``query`` may see, likest first."""
        return self._meanings.near(connection, query, self._vector, limit=limit)


def _found(
    connection: sqlite3.Connection,
    query: MemoryQuery,
    file: VectorFile,
    rows: Rows | None,
    likeness: Vectors,
    *,
    floor: float,
    limit: int,
) -> list[Near]:
    """The likest of ``rows`` (``None``: all) that may be found, page by page until there are enough."""
    found: list[Near] = []
    first, page = 0, limit + limit // 2
    num_near = int(np.count_nonzero(likeness >= floor))
    while len(found) < limit and first < num_near:
        last = min(num_near, first + page)
        best = np.argpartition(-likeness, last - 1)[:last] if last < len(likeness) else np.arange(len(likeness))
        best = best[np.argsort(-likeness[best], kind="stable")][first:last]
        places = best if rows is None else rows[best]
        near = dict(zip(places.tolist(), likeness[best].tolist(), strict=True))
        found += [
            Near(one, near[one.row])
            for one in candidates_of_file(connection, query, file.id, list(near), limit=limit - len(found))
        ]
        first, page = last, page * 8
    return found
