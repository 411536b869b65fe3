"""Which units are near to a question in meaning.

Owns comparing a question's vector with those of an agent's units; refuses to know where vectors come from and what
words a unit has. Invariants: scope, trust and validity are conditions of the query that turns rows into units, so what
may not be found is never a candidate; every row is compared, however old.

Rows are mapped from their file and never copied. As in ``retrieval.likeness``, what all rows share is taken away before
they are compared. Numpy is needed: this module is loaded where an embedder is configured.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaclaw.memory.query import MemoryQuery, Near
from metaclaw.memory.rows import COLUMNS, unit_of
from metaclaw.memory.vector_files import HEADER_BYTES, VectorFile, file_for
from metaclaw.memory.visibility import visible
from metaclaw.retrieval.vectors import Vectors

_FEWEST = 8  # rows that have a mean worth taking away
_SAMPLE = 4096  # rows that the mean is of
_GROWTH = 1.25  # of the rows, until the mean is taken anew
_FIRST_PAGE = 128
_CONSIDERED = 0.5  # of what is like enough: so near a miss is told to whoever asks why
_MAX_FILES = 64
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Rows:
    """A file as it is mapped: ``means`` is the mean's product with each row."""

    num_sampled: int
    vectors: Vectors
    mean: Vectors
    means: Vectors


class Meanings:
    """Finds units by the vectors that ``model`` made of them. One thread at a time may use it."""

    def __init__(self, model: str, *, min_likeness: float) -> None:
        self.model = model
        self.min_likeness = min_likeness
        self._mapped: dict[Path, _Rows] = {}

    def asked(self, vector: Vectors) -> AskedMeaning:
        """A question whose meaning is ``vector``, of unit length."""
        return AskedMeaning(self, vector)

    def near(self, connection: sqlite3.Connection, query: MemoryQuery, vector: Vectors, *, limit: int) -> list[Near]:
        """At most ``limit`` of the units that ``query`` may see, likest first, down to half of ``min_likeness``."""
        floor = self.min_likeness * _CONSIDERED
        file = file_for(connection, query.agent, self.model)
        if file is None or file.num_rows == 0 or file.width != vector.size:
            return []
        rows = self._rows(file)
        if rows is None:
            return []
        likeness = _likeness(rows, vector.reshape(-1))
        found: list[Near] = []
        first, page = 0, max(_FIRST_PAGE, 2 * limit)
        num_near = int(np.count_nonzero(likeness >= floor))
        while len(found) < limit and first < num_near:
            last = min(num_near, first + page)
            best = np.argpartition(-likeness, last - 1)[:last] if last < len(likeness) else np.arange(len(likeness))
            best = best[np.argsort(-likeness[best], kind="stable")][first:last]
            found += _units(connection, query, file, {int(row): float(likeness[row]) for row in best})
            first, page = last, page * 8
        return found[:limit]

    def _rows(self, file: VectorFile) -> _Rows | None:
        known = self._mapped.get(file.path)
        if known is not None and len(known.vectors) == file.num_rows:
            return known
        if not file.is_whole:
            _log.warning("%s is not whole: its memories are found by words until they are embedded anew", file.path)
            return None
        vectors = np.memmap(file.path, np.float32, "r", HEADER_BYTES, (file.num_rows, file.width))
        if known is None or file.num_rows > known.num_sampled * _GROWTH:
            mean = _mean(vectors)
            rows = _Rows(file.num_rows, vectors, mean, vectors @ mean)
        else:
            fresh = vectors[len(known.means) :] @ known.mean
            rows = _Rows(known.num_sampled, vectors, known.mean, np.concatenate([known.means, fresh]))
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


def _mean(vectors: Vectors) -> Vectors:
    sampled = vectors[:: -(-len(vectors) // _SAMPLE)]
    share = 1 / len(sampled) if len(vectors) >= _FEWEST else 0.0
    mean: Vectors = np.full(len(sampled), share, np.float32) @ sampled
    return mean


def _likeness(rows: _Rows, vector: Vectors) -> Vectors:
    """The cosine of each row and ``vector``, the mean taken from both, without making a centred copy of the rows."""
    square, of_mean = rows.mean @ rows.mean, rows.mean @ vector
    length = max(1e-6, float(np.linalg.norm(vector - rows.mean)))
    lengths = np.sqrt(np.maximum(1e-6, 1 - 2 * rows.means + square)) * length
    likeness: Vectors = np.divide(rows.vectors @ vector - rows.means - of_mean + square, lengths, dtype=np.float32)
    return likeness


def _units(
    connection: sqlite3.Connection, query: MemoryQuery, file: VectorFile, likeness: dict[int, float]
) -> list[Near]:
    condition, values = visible(query)
    rows = connection.execute(
        f"SELECT {COLUMNS}, vectors.row, coalesce(uses.number, 0), uses.last_at FROM vectors"
        " JOIN units ON units.seq = vectors.unit LEFT JOIN uses ON uses.unit = units.id"
        f" WHERE vectors.file = ? AND vectors.row IN (SELECT value FROM json_each(?)) AND {condition}",
        (file.id, json.dumps(list(likeness)), *values),
    ).fetchall()
    near = [
        Near(unit=unit_of(row[:-3]), likeness=likeness[row[-3]], num_uses=row[-2], last_used_at=row[-1]) for row in rows
    ]
    return sorted(near, key=lambda one: (-one.likeness, one.unit.id))
