"""How a new unit meets what is remembered already.

Owns what is the same, what is nearly the same and what is contradicted; refuses to know how units are found for a
model. Invariants: a statement that a later one contradicts is ended and stays in history; one that somebody less
trusted makes never ends it; two that differ in a number or a "not" are never the same; and what the user says is never
taken for what a tool, a page or an import has in nearly the same words: said in the very same, it is the user's now.
"""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import replace

from metaclaw.memory.negations import num_negations
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.rows import COLUMNS, add_turns, insert_unit, unit_of
from metaclaw.memory.search import search
from metaclaw.memory.standing import OWN_TRUST, is_own, stands
from metaclaw.memory.units import MemoryUnit, digest_of
from metaclaw.memory.word_index import WordIndex
from metaclaw.retrieval.words import words_of

_NUM_NEIGHBOURS = 5  # found through the index; never all pairs
_MAX_NEIGHBOURS = 100  # that are looked at, by the rarest words: whoever says the same shares most of them
_MIN_SHARED = 0.8  # Jaccard's index of the words
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")


def settle(index: WordIndex, unit: MemoryUnit, now: float) -> str:
    """Within a transaction, remember ``unit``; return the id under which it is kept, "" if it was forgotten before."""
    connection = index.connection
    if was_forgotten(connection, unit):
        return ""
    known = _same(connection, unit) or _nearly_same(index, unit, now)
    if known is not None:
        add_turns(connection, known, unit.turns, unit.said_at)
        if is_own(unit):
            _is_the_users(connection, known, unit)
        return known
    for old in _contradicted(connection, unit):
        if old.said_at > unit.said_at:  # learned late: it was over before it came
            unit = replace(unit, superseded_by=old.id, true_until=_earlier(unit.true_until, old.said_at, unit))
        else:
            connection.execute(
                "UPDATE units SET superseded_by = ?, true_until = ? WHERE id = ?",
                (unit.id, _earlier(old.true_until, unit.said_at, old), old.id),
            )
    insert_unit(connection, unit)
    return unit.id


def was_forgotten(connection: sqlite3.Connection, unit: MemoryUnit) -> bool:
    """Whether ``unit`` was forgotten here: it, or the same words of the same turns. Said anew it may be remembered."""
    if connection.execute("SELECT 1 FROM forgotten WHERE id = ?", (unit.id,)).fetchone():
        return True
    rows = connection.execute("SELECT turns FROM forgotten WHERE digest = ?", (digest_of(unit),)).fetchall()
    return bool(unit.turns) and any(set(unit.turns) <= set(json.loads(turns)) for (turns,) in rows)


def is_same_statement(one: str, other: str) -> bool:
    """Whether two texts say the same in nearly the same words."""
    if sorted(_NUMBER.findall(one)) != sorted(_NUMBER.findall(other)) or num_negations(one) != num_negations(other):
        return False
    words, others = set(words_of(one)), set(words_of(other))
    return len(words & others) >= _MIN_SHARED * len(words | others) if words else False


def _same(connection: sqlite3.Connection, unit: MemoryUnit) -> str | None:
    row = connection.execute(
        "SELECT id FROM units WHERE digest = ? AND superseded_by IS NULL", (digest_of(unit),)
    ).fetchone()
    return row[0] if row else None


def _nearly_same(index: WordIndex, unit: MemoryUnit, now: float) -> str | None:
    neighbours = search(
        index,
        MemoryQuery(
            text=unit.text, agent=unit.agent, now=now, limit=_NUM_NEIGHBOURS, kinds=(unit.kind,), is_everything=True
        ),
        max_matches=_MAX_NEIGHBOURS,
    )
    alike = (
        found.unit.id
        for found in neighbours
        if _owner(found.unit) == _owner(unit)
        and is_same_statement(found.unit.text, unit.text)
        and (is_own(found.unit) or not is_own(unit))
    )
    return next(alike, None)


def _is_the_users(connection: sqlite3.Connection, known: str, unit: MemoryUnit) -> None:
    """The user says in their own words what is known as ``known``, whoever it was from: it is believed as theirs."""
    connection.execute(
        "UPDATE units SET source = ?1, trust = max(trust, ?2) WHERE id = ?3 AND NOT (source IN ('user', 'manual')"
        " AND trust >= ?4)",
        (unit.source, unit.trust, known, OWN_TRUST),
    )
    if unit.standing:
        connection.execute("UPDATE units SET standing = 1 WHERE id = ?", (known,))


def _contradicted(connection: sqlite3.Connection, unit: MemoryUnit) -> list[MemoryUnit]:
    """What holds of the same subject and owner, from nobody more trusted; of wishes that stand only by another such."""
    if not unit.subject:
        return []
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM units WHERE agent = ? AND subject = ? AND kind = ? AND superseded_by IS NULL",
        (unit.agent, unit.subject, unit.kind),
    ).fetchall()
    return [
        old
        for old in map(unit_of, rows)
        if _owner(old) == _owner(unit) and old.trust <= unit.trust and (stands(unit) or not stands(old))
    ]


def _owner(unit: MemoryUnit) -> tuple[str, str | None]:
    return unit.scope, None if unit.scope == "agent" else getattr(unit, unit.scope)


def _earlier(until: float | None, moment: float, unit: MemoryUnit) -> float:
    end = moment if until is None else min(until, moment)
    return end if unit.true_from is None else max(end, unit.true_from)
