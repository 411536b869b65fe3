"""How the user wants things done, whatever they ask.

Owns finding that; refuses to know what is asked. Invariant: it is the user's own word alone: what a tool, the web or a
file said stands for nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.rows import read_units
from metaclaw.memory.units import MemoryUnit
from metaclaw.memory.visibility import visible

_OWN = ("user", "manual")
OWN_TRUST = 0.5  # below it not even what is said to be the user's word is taken for that


def is_own(unit: MemoryUnit) -> bool:
    """Whether ``unit`` is the user's own word."""
    return unit.source in _OWN and unit.trust >= OWN_TRUST


def stands(unit: MemoryUnit) -> bool:
    """Whether ``unit`` is a wish of the user's that stands whatever is asked."""
    return unit.standing and is_own(unit)


def as_if_none(connection: sqlite3.Connection) -> None:
    """Let a store that an earlier version wrote, and that is only read, be read as one without any such wish."""
    columns = {name for _, name, *_ in connection.execute("PRAGMA main.table_info(units)")}
    if columns and "standing" not in columns:
        connection.execute("PRAGMA query_only = OFF")  # a view of the connection's own: the file stays as it is
        connection.execute("CREATE TEMP VIEW units AS SELECT *, 0 AS standing FROM main.units")
        connection.execute("PRAGMA query_only = ON")


def standing(connection: sqlite3.Connection, query: MemoryQuery, *, without: Collection[str]) -> list[Found]:
    """The wishes that were said last, at most ``query.num_standing``, of what ``query`` may see."""
    condition, values = visible(query)
    rows = connection.execute(
        f"SELECT units.id FROM units WHERE {condition} AND units.standing = 1 AND units.trust >= {OWN_TRUST}"
        f" AND units.source IN ({', '.join('?' * len(_OWN))}) ORDER BY max(units.said_at, coalesce((SELECT"
        " max(said_at) FROM unit_turns WHERE unit = units.id), 0)) DESC, units.seq DESC LIMIT ?",
        (*values, *_OWN, query.num_standing + len(without)),
    )
    ids = [unit for (unit,) in rows if unit not in without][: query.num_standing]
    units = read_units(connection, ids)
    return [Found(unit=units[unit], score=0.0, parts={"standing": 1.0}) for unit in ids]
