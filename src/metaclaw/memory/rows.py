"""Units as rows of ``memory.db``.

Owns the columns; refuses to know which rows are wanted. Invariant: what is read is what was written, field by field.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from metaclaw.memory.units import MemoryUnit, digest_of
from metaclaw.memory.word_index import put_into_index

COLUMNS = (
    "units.id, units.kind, units.text, units.agent, units.scope, units.user, units.workspace, units.session,"
    " units.subject, units.source, units.trust, units.confidence, units.said_at, units.true_from, units.true_until,"
    " units.superseded_by, units.created_at, units.standing"
)
_NAMES = tuple(column.strip().removeprefix("units.") for column in COLUMNS.split(","))


def unit_of(row: Sequence[object]) -> MemoryUnit:
    """The unit in ``row`` of ``COLUMNS``, without its turns."""
    return MemoryUnit(**_fields(row))


def read_units(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, MemoryUnit]:
    """Those of ``ids`` that there are, each with the turns that it was learned from."""
    rows = connection.execute(
        f"SELECT {COLUMNS}, (SELECT json_group_array(turn) FROM (SELECT turn FROM unit_turns"
        " WHERE unit = units.id ORDER BY turn))"
        " FROM json_each(?) AS wanted CROSS JOIN units ON units.id = wanted.value",
        (json.dumps(list(ids)),),
    ).fetchall()
    return {row[0]: MemoryUnit(**_fields(row), turns=tuple(json.loads(row[-1]))) for row in rows}


def _fields(row: Sequence[Any]) -> dict[str, Any]:
    named = dict(zip(_NAMES, row, strict=False))
    return {**named, "standing": bool(named["standing"])}


def with_turns(connection: sqlite3.Connection, units: Iterable[MemoryUnit]) -> list[MemoryUnit]:
    """``units`` with the turns that each was learned from."""
    read = list(units)
    turns: dict[str, list[str]] = {unit.id: [] for unit in read}
    rows = connection.execute(
        "SELECT unit, turn FROM json_each(?) AS wanted CROSS JOIN unit_turns ON unit = wanted.value ORDER BY turn",
        (json.dumps(list(turns)),),
    )
    for unit, turn in rows.fetchall():
        turns[unit].append(turn)
    return [replace(unit, turns=tuple(turns[unit.id])) for unit in read]


def insert_unit(connection: sqlite3.Connection, unit: MemoryUnit) -> int:
    """Write a new unit with its turns and its words; return its row."""
    cursor = connection.execute(
        f"INSERT INTO units ({COLUMNS.replace('units.', '')}, digest)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            unit.id, unit.kind, unit.text, unit.agent, unit.scope, unit.user, unit.workspace, unit.session,
            unit.subject, unit.source, unit.trust, unit.confidence, unit.said_at, unit.true_from, unit.true_until,
            unit.superseded_by, unit.created_at, unit.standing, digest_of(unit),
        ),
    )  # fmt: skip
    seq = cursor.lastrowid or 0
    add_turns(connection, unit.id, unit.turns, unit.said_at)
    put_into_index(connection, seq, unit.agent, f"{unit.text} {unit.subject}")
    return seq


def add_turns(connection: sqlite3.Connection, unit: str, turns: Iterable[str], said_at: float) -> None:
    """Note further turns that a unit was learned from, in which it was said at ``said_at``."""
    connection.executemany(
        "INSERT OR IGNORE INTO unit_turns (unit, turn, said_at) VALUES (?, ?, ?)",
        [(unit, turn, said_at) for turn in turns],
    )
