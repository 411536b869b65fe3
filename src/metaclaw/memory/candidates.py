"""Units by their rows, as far as they may be found.

Owns reading what is weighed of them, in the order that is wanted; refuses to know why. Invariant: the condition of
``visibility`` is in the query that makes a candidate of a row, so what may not be found is never one; and rows are read
until enough may be.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice

from metaclaw.memory.query import Candidate, MemoryQuery
from metaclaw.memory.visibility import visible

_COLUMNS = (
    "units.id, units.said_at, units.confidence, units.superseded_by, units.true_until,"
    " coalesce(uses.number, 0), uses.last_at"
)
_USES = "LEFT JOIN uses ON uses.unit = units.id"


def candidates(
    connection: sqlite3.Connection, query: MemoryQuery, rows: Iterable[int], *, limit: int
) -> list[Candidate]:
    """At most ``limit`` of the units in ``rows``, in that order."""
    found: list[Candidate] = []
    coming, length = iter(rows), limit + limit // 2
    while len(found) < limit and (page := list(islice(coming, length))):
        found += _read(connection, query, _OF_ROWS, [page], limit - len(found))
        length *= 8
    return found


def candidates_of_file(
    connection: sqlite3.Connection, query: MemoryQuery, file: int, rows: Sequence[int], *, limit: int
) -> list[Candidate]:
    """At most ``limit`` of the units whose vectors are in ``rows`` of a file, in that order; ``row`` is that row."""
    return _read(connection, query, _OF_A_FILE, [rows, file], limit)


def newest_candidates(connection: sqlite3.Connection, query: MemoryQuery, *, limit: int) -> list[Candidate]:
    """The newest of the units that may be found, at most ``limit``, newest first."""
    condition, values = visible(query)
    rows = connection.execute(
        f"SELECT units.seq, {_COLUMNS} FROM units {_USES} WHERE {condition}"
        " ORDER BY units.said_at DESC, units.seq DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    return [Candidate._make(row) for row in rows]


_OF_ROWS = "json_each(?) AS wanted CROSS JOIN units ON units.seq = wanted.value"
_OF_A_FILE = (
    "json_each(?) AS wanted CROSS JOIN vectors ON vectors.file = ? AND vectors.row = wanted.value"
    " CROSS JOIN units ON units.seq = vectors.unit"
)


def _read(
    connection: sqlite3.Connection, query: MemoryQuery, units: str, wanted: Sequence[object], limit: int
) -> list[Candidate]:
    condition, values = visible(query)
    # A cross join is made in the order in which it is written, so the first that may be found are read and no others.
    read = connection.execute(
        f"SELECT wanted.key, wanted.value, {_COLUMNS} FROM {units} {_USES} WHERE {condition} LIMIT ?",
        (json.dumps(wanted[0]), *wanted[1:], *values, limit),
    ).fetchall()
    return [Candidate._make(row[1:]) for row in sorted(read)]
