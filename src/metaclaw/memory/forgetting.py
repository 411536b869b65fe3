"""Forgetting, and the proof of it.

Owns what goes with a unit that is forgotten; refuses to know who asks. Invariant: no word of a forgotten unit stays in
the file, its index or its log; what stays is that something was forgotten, from which turns, and why.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from metaclaw.memory.store import MemoryStore, told


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Which units: every condition that is given must hold. One at least must be."""

    agent: str | None = None
    user: str | None = None
    session: str | None = None
    said_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was forgotten. ``is_clean`` is false while a reader keeps the log from being emptied; ask again then."""

    ids: tuple[str, ...]
    marked: tuple[tuple[str, str], ...] = ()  # kind and name of what was made of the same turns
    is_clean: bool = True


def select(store: MemoryStore, whose: Whose) -> list[str]:
    """The ids of all units, held or history, that ``whose`` describes."""
    conditions, values = list[str](), list[object]()
    for column, value in (("agent = ?", whose.agent), ("user = ?", whose.user), ("said_at >= ?", whose.said_since)):
        if value is not None:
            conditions.append(column)
            values.append(value)
    if whose.session is not None:  # also what was learned in it and holds beyond it
        conditions.append(
            "(session = ? OR id IN (SELECT unit FROM unit_turns WHERE turn IN"
            " (SELECT value FROM extracted, json_each(extracted.turns) WHERE extracted.session = ?)))"
        )
        values += [whose.session, whose.session]
    if not conditions:
        return []
    with told("read"):
        rows = store.connection.execute(f"SELECT id FROM units WHERE {' AND '.join(conditions)} ORDER BY seq", values)
        return [unit for (unit,) in rows.fetchall()]


def forget(store: MemoryStore, ids: Collection[str], *, why: str, now: float) -> Forgotten:
    """Forget the units ``ids`` with their earlier wordings. Unknown ids are passed over.

    Raises ``JournalError`` when it could not be done, and then nothing was.
    """
    connection = store.connection
    with store.writing("forget"):
        rows = connection.execute(
            # an edit keeps the id and adds to it, so the earlier wordings of what was edited go with it
            "SELECT seq, id, digest, agent FROM units WHERE id IN (SELECT value FROM json_each(?1)) OR"
            " substr(id, 1, instr(id || '~', '~') - 1) IN"
            " (SELECT substr(value, 1, instr(value || '~', '~') - 1) FROM json_each(?1))",
            (json.dumps(list(ids)),),
        ).fetchall()
        turns: set[str] = set()
        for seq, unit, digest, agent in rows:
            turns |= _forget_one(connection, seq, unit, digest, agent, why, now)
        marked = _mark(connection, turns, now)
        if rows:
            # Else what was deleted stays in the index's older segments.
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    return Forgotten(ids=tuple(row[1] for row in rows), marked=marked, is_clean=empty_log(store))


def empty_log(store: MemoryStore) -> bool:
    """Write the log into the file and cut it to nothing; false while somebody reads from it."""
    with told("empty the log of"):
        (is_busy, *_) = store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not is_busy


def forgotten_ids(store: MemoryStore) -> frozenset[str]:
    """The ids of all that was forgotten, for whoever keeps text of theirs elsewhere."""
    with told("read"):
        return frozenset(unit for (unit,) in store.connection.execute("SELECT id FROM forgotten").fetchall())


def descend(store: MemoryStore, kind: str, name: str, turns: Collection[str]) -> None:
    """Note that a skill or a policy version was made of ``turns``."""
    with store.writing("note where something comes from in"):
        store.connection.executemany(
            "INSERT OR IGNORE INTO descendants VALUES (?, ?, ?, NULL)", [(kind, name, turn) for turn in turns]
        )


def _forget_one(
    connection: sqlite3.Connection, seq: int, unit: str, digest: bytes, agent: str, why: str, now: float
) -> set[str]:
    turns = {turn for (turn,) in connection.execute("SELECT turn FROM unit_turns WHERE unit = ?", (unit,)).fetchall()}
    connection.execute(
        "INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?, ?, ?, ?)",
        (unit, digest, agent, json.dumps(sorted(turns)), why, now),
    )
    connection.execute("DELETE FROM words WHERE rowid = ?", (seq,))
    connection.execute("DELETE FROM units WHERE seq = ?", (seq,))
    connection.execute("DELETE FROM unit_turns WHERE unit = ?", (unit,))
    connection.execute("DELETE FROM uses WHERE unit = ?", (unit,))
    return turns


def _mark(connection: sqlite3.Connection, turns: set[str], now: float) -> tuple[tuple[str, str], ...]:
    values = {"turns": json.dumps(sorted(turns)), "now": now}
    among = "turn IN (SELECT value FROM json_each(:turns))"
    connection.execute(f"UPDATE descendants SET marked_at = :now WHERE marked_at IS NULL AND {among}", values)
    rows = connection.execute(f"SELECT DISTINCT kind, name FROM descendants WHERE {among} ORDER BY 1, 2", values)
    return tuple((kind, name) for kind, name in rows.fetchall())
