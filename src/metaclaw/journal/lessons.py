"""What teachers said of turns, as it is kept for people.

Owns the table ``lessons`` of ``learning.db``; refuses to know how a teacher is asked and what its word weighs.
Invariant: a lesson is written with the end of its update, in one transaction.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

SCHEMA = 10  # of learning.db: the first that knows teachers


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtTurn:
    """What a teacher said of one turn's answer, and how far the update moved it, in nats per drawn token.

    ``gap`` is the teacher's log-probability minus the policy's before the step, ``change`` the policy's after the step
    minus that before it; not a number, or ``None``, where that is not known.
    """

    turn: str
    method: str
    teacher: str
    num_tokens: int
    gap: float
    change: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtIn:
    """A lesson as it was written down. ``state`` is that of its update, ``version`` what came of it."""

    method: str
    teacher: str
    num_tokens: int
    gap: float | None
    change: float | None
    update_id: int
    state: str
    version: int | None


def write_lessons(db: sqlite3.Connection, update_id: int, agent: str, lessons: Sequence[TaughtTurn]) -> None:
    """Within the caller's transaction."""
    db.executemany(
        "INSERT INTO lessons (turn, method, update_id, agent, teacher, num_tokens, gap, change)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (one.turn, one.method, update_id, agent, one.teacher, one.num_tokens, _told(one.gap), _told(one.change))
            for one in lessons
        ],
    )


def lessons_of(db: sqlite3.Connection, turn: str) -> list[TaughtIn]:
    """What teachers said of ``turn``, oldest first."""
    rows = db.execute(
        "SELECT l.method, l.teacher, l.num_tokens, l.gap, l.change, l.update_id, u.state, v.version"
        " FROM lessons AS l JOIN updates AS u ON u.id = l.update_id LEFT JOIN versions AS v ON v.update_id = u.id"
        " WHERE l.turn = ? ORDER BY l.update_id, l.method",
        (turn,),
    ).fetchall()
    names = ("method", "teacher", "num_tokens", "gap", "change", "update_id", "state", "version")
    return [TaughtIn(**dict(zip(names, row, strict=True))) for row in rows]


def _told(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
