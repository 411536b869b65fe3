"""What teachers said of turns, and what they took.

Owns the tables ``teacher_calls`` and ``lessons`` of ``learning.db``; refuses to know how a teacher is asked and what
its word weighs. Invariant: a lesson is written with the end of its update, in one transaction; what an answer took is
written down when it came, whatever became of the update.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.database import open_writer, transaction

Clock = Callable[[], float]

SCHEMA = 10  # of learning.db: the first that knows teachers


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherCall:
    """One answer of a teacher elsewhere. ``None`` is unknown; ``tokens`` is estimated then."""

    agent: str
    teacher: str
    tokens: int
    is_estimate: bool
    cost_usd: float | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


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


class TeacherBook:
    """A connection of its own, for the learner's process alone. Any thread may use it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock = time.time) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, clock: Clock = time.time) -> TeacherBook:
        """Open ``learning.db``; raises ``JournalError``."""
        return cls(open_writer(path, "learning"), clock)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def record_call(self, call: TeacherCall) -> None:
        """Write down what one answer took."""
        with self._lock, transaction(self._connection):
            self._connection.execute(
                "INSERT INTO teacher_calls (agent, teacher, tokens, is_estimate, cost_usd, called_at, prompt_tokens,"
                " completion_tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (call.agent, call.teacher, call.tokens, call.is_estimate, call.cost_usd, self._clock(),
                 call.prompt_tokens, call.completion_tokens),
            )  # fmt: skip

    def spent(self, *, last_s: float) -> tuple[int, float]:
        """Tokens and known US dollars that teachers took in the last ``last_s`` seconds."""
        with self._lock:
            row = self._connection.execute(
                "SELECT coalesce(sum(tokens), 0), coalesce(sum(cost_usd), 0.0) FROM teacher_calls WHERE called_at > ?",
                (self._clock() - last_s,),
            ).fetchone()
        return row[0], row[1]


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
