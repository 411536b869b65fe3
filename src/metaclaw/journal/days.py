"""What happened on which day: turns and what they took, and how answers were judged.

Owns the sums by day over ``turns.db`` and ``learning.db``, read-only; refuses to write. Invariants: days are those of
this machine's clock, as ``2026-11-27``; and no more of ``turns.db`` is read than the turns since then.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.database import reading
from metaclaw.journal.turn_statistics import SUMS, AgentStatistics

_DAY = "date({}, 'unixepoch', 'localtime')"
_TURNS = f"""
    SELECT {_DAY.format("opened_at")} AS day, {SUMS}
    FROM turns WHERE seq >= ? AND opened_at >= ? GROUP BY day, agent ORDER BY day, agent
"""
_SCORES = f"""
    SELECT {_DAY.format("judged_at")} AS day, agent, count(*) AS judged, avg(score) AS mean_score
    FROM judgements WHERE state = 'judged' AND judged_at >= ? GROUP BY day, agent ORDER BY day, agent
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfTurns(AgentStatistics):
    """The sums over an agent's turns of a day."""

    day: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfScores:
    """An agent's exchanges that were judged on a day, and their mean score, -1 to 1."""

    day: str
    agent: str
    judged: int
    mean_score: float


def days_of_turns(turns_db: Path, *, since: float) -> list[DayOfTurns]:
    """The days from ``since`` (Unix seconds) on that had turns. Raises ``JournalError``."""
    if not turns_db.exists():
        return []
    with reading(turns_db) as connection:
        connection.row_factory = sqlite3.Row
        first = _first_since(connection, since)
        return [DayOfTurns(**dict(row)) for row in connection.execute(_TURNS, (first, since)).fetchall()]


def days_of_scores(learning_db: Path, *, since: float) -> list[DayOfScores]:
    """The days from ``since`` on on which something was judged. Raises ``JournalError``."""
    if not learning_db.exists():
        return []
    with reading(learning_db) as connection:
        connection.row_factory = sqlite3.Row
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            return []  # the learner is creating the file at this moment
        return [DayOfScores(**dict(row)) for row in connection.execute(_SCORES, (since,)).fetchall()]


def _first_since(connection: sqlite3.Connection, since: float) -> int:
    """A number that no turn opened since then is below, by halves: there is no index of times.

    Numbers follow the order of opening, so where the clock was set back turns before that are left out, no others.
    """
    low, high = connection.execute("SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) + 1 FROM turns").fetchone()
    while low < high:
        middle = (low + high) // 2
        at = connection.execute("SELECT opened_at FROM turns WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)).fetchone()
        if at is None or at[0] >= since:
            high = middle
        else:
            low = middle + 1
    return low
