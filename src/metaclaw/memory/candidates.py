"""Units by their rows, as far as they may be found.

Owns reading them in the order that is wanted; refuses to know why. Invariant: the condition of ``visibility`` is in the
query that makes a unit of a row, so what may not be found is never a candidate; and rows are read until enough may be.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.rows import COLUMNS, unit_of
from metaclaw.memory.units import MemoryUnit
from metaclaw.memory.visibility import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A unit that may be found, its row, and how it was used."""

    unit: MemoryUnit
    row: int
    num_uses: int
    last_used_at: float | None


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
        f"SELECT {COLUMNS}, coalesce(uses.number, 0), uses.last_at, wanted.key, wanted.value FROM {units}"
        f" LEFT JOIN uses ON uses.unit = units.id WHERE {condition} LIMIT ?",
        (json.dumps(wanted[0]), *wanted[1:], *values, limit),
    ).fetchall()
    return [
        Candidate(unit=unit_of(row[:-4]), row=row[-1], num_uses=row[-4], last_used_at=row[-3])
        for row in sorted(read, key=lambda row: row[-2])
    ]
