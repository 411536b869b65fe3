"""Forgetting.

Owns what goes with a unit that is forgotten; refuses to know who asks, and what was made of its turns elsewhere.
Invariant: no word of a forgotten unit stays in the file, its index or its log; what stays is that something was
forgotten, from which turns, and why. Whether the bytes are gone too is written beside it.

With a unit go its earlier wordings, and the summaries of the sessions in which it was said: they tell the same.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from metaclaw.memory.store import MemoryStore, told
from metaclaw.memory.vector_files import erase_vectors

_Row = tuple[int, str, bytes, str]  # seq, id, digest, agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Which units: every condition that is given must hold. One at least must be."""

    agent: str | None = None
    user: str | None = None
    session: str | None = None
    said_since: float | None = None
    said_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was forgotten. ``is_clean`` is false while a reader keeps the log from being emptied; ask again then."""

    ids: tuple[str, ...]
    is_clean: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of a unit that was forgotten. ``cleared_at``: since when no byte of it can be in the file."""

    id: str
    agent: str
    turns: tuple[str, ...]
    why: str
    forgotten_at: float
    cleared_at: float | None


def select(store: MemoryStore, whose: Whose) -> list[str]:
    """The ids of all units, held or history, that ``whose`` describes."""
    conditions, values = list[str](), list[object]()
    for column, value in _described(whose):
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


def _described(whose: Whose) -> list[tuple[str, object]]:
    return [
        ("agent = ?", whose.agent),
        ("user = ?", whose.user),
        ("said_at >= ?", whose.said_since),
        ("said_at < ?", whose.said_before),
    ]


def forget(store: MemoryStore, ids: Collection[str], *, why: str, now: float) -> Forgotten:
    """Forget the units ``ids`` with their earlier wordings. Unknown ids are passed over.

    Raises ``JournalError`` when it could not be done, and then nothing was.
    """
    connection = store.connection
    with store.writing("forget"):
        rows = _wordings(connection, ids)
        turns: set[str] = set()
        for row in rows:
            turns |= _forget_one(connection, row, why, now)
        summaries = _summaries(connection, turns)
        for row in summaries:
            _forget_one(connection, row, why, now)
        erase_vectors(connection, [row[0] for row in (*rows, *summaries)])
        if rows:
            # Else what was deleted stays in the index's older segments.
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    return Forgotten(ids=tuple(row[1] for row in (*rows, *summaries)), is_clean=clear(store, now))


def clear(store: MemoryStore, now: float) -> bool:
    """Write the file anew and cut its log to nothing, if anything was forgotten since; false while somebody reads.

    Deleting alone leaves copies in the unused parts of pages. Readers go on meanwhile, writers wait.
    """
    with told("clear"):
        due = [row[0] for row in store.connection.execute("SELECT id FROM forgotten WHERE cleared_at IS NULL")]
        if due:
            store.connection.execute("VACUUM")
    if not empty_log(store):
        return False
    if due:
        with store.writing("note what is gone from"):
            store.connection.execute(
                "UPDATE forgotten SET cleared_at = ? WHERE id IN (SELECT value FROM json_each(?))",
                (now, json.dumps(due)),
            )
    return True


def empty_log(store: MemoryStore) -> bool:
    """Write the log into the file and cut it to nothing; false while somebody reads from it."""
    with told("empty the log of"):
        (is_busy, *_) = store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not is_busy


def forgotten_ids(store: MemoryStore) -> frozenset[str]:
    """The ids of all that was forgotten, for whoever keeps text of theirs elsewhere."""
    with told("read"):
        return frozenset(unit for (unit,) in store.connection.execute("SELECT id FROM forgotten").fetchall())


def tombstones(store: MemoryStore) -> list[Tombstone]:
    """All that was forgotten, oldest first."""
    with told("read"):
        rows = store.connection.execute(
            "SELECT id, agent, turns, why, forgotten_at, cleared_at FROM forgotten ORDER BY forgotten_at, id"
        ).fetchall()
    return [
        Tombstone(
            id=unit, agent=agent, turns=tuple(json.loads(turns)), why=why, forgotten_at=gone_at, cleared_at=cleared_at
        )
        for unit, agent, turns, why, gone_at, cleared_at in rows
    ]


def _wordings(connection: sqlite3.Connection, ids: Collection[str]) -> list[_Row]:
    # An edit keeps the id and adds to it, so the earlier wordings of what was edited go with it.
    return connection.execute(
        "SELECT seq, id, digest, agent FROM units WHERE id IN (SELECT value FROM json_each(?1)) OR"
        " substr(id, 1, instr(id || '~', '~') - 1) IN"
        " (SELECT substr(value, 1, instr(value || '~', '~') - 1) FROM json_each(?1))",
        (json.dumps(list(ids)),),
    ).fetchall()


def _summaries(connection: sqlite3.Connection, turns: Collection[str]) -> list[_Row]:
    return connection.execute(
        "SELECT units.seq, units.id, units.digest, units.agent FROM units WHERE kind = 'working_summary'"
        " AND EXISTS (SELECT 1 FROM extracted, json_each(extracted.turns) AS turn WHERE extracted.agent = units.agent"
        " AND extracted.session = units.session AND turn.value IN (SELECT value FROM json_each(?)))",
        (json.dumps(sorted(turns)),),
    ).fetchall()


def _forget_one(connection: sqlite3.Connection, row: _Row, why: str, now: float) -> set[str]:
    seq, unit, digest, agent = row
    turns = {turn for (turn,) in connection.execute("SELECT turn FROM unit_turns WHERE unit = ?", (unit,)).fetchall()}
    connection.execute(
        "INSERT OR REPLACE INTO forgotten (id, digest, agent, turns, why, forgotten_at) VALUES (?, ?, ?, ?, ?, ?)",
        (unit, digest, agent, json.dumps(sorted(turns)), why, now),
    )
    connection.execute("DELETE FROM words WHERE rowid = ?", (seq,))
    connection.execute("DELETE FROM units WHERE seq = ?", (seq,))
    connection.execute("DELETE FROM unit_turns WHERE unit = ?", (unit,))
    connection.execute("DELETE FROM uses WHERE unit = ?", (unit,))
    return turns
