"""What judges said, and what persons said after them.

Owns the tables ``opinions`` and ``late_feedback`` of ``learning.db``; refuses to know how anything is judged and when
it is late. Invariant: late feedback changes the reward of a sample that no update has claimed, and never that of one
that an update has used; either is written down once, in one transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from metaclaw.journal.learning_connection import LearningConnection
from metaclaw.journal.learning_records import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOpinion:
    """What one source said of an exchange."""

    source: str
    judge: str
    score: float
    detail: JsonObject = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFeedback:
    """A person's score of an exchange that has a verdict. ``decides``: it goes before who judged."""

    feedback: int
    exchange: str
    agent: str
    score: float
    decides: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """The samples that late feedback found: of how many it changed the reward, and for how many it was too late."""

    num_changed: int
    num_claimed: int
    num_spent: int


class OpinionBook(LearningConnection):
    """A connection of its own, for the learner's process alone."""

    def opinions(self, source: str, exchanges: Sequence[str]) -> dict[str, float]:
        """What ``source`` said of those of ``exchanges`` that it said anything of."""
        with self._read() as db:
            rows = db.execute(
                "SELECT exchange, score FROM opinions"
                " WHERE source = ? AND exchange IN (SELECT value FROM json_each(?))",
                (source, json.dumps(list(exchanges))),
            ).fetchall()
        return {row["exchange"]: row["score"] for row in rows}

    def revise(self, late: LateFeedback) -> Revised | None:
        """Write down a person's word, and let it count from now on where it ``decides``.

        ``None`` where it does not, and when this very feedback was written down before.
        """
        with self._write() as db:
            return _revise(db, late, self._clock())


def write_opinions(
    db: sqlite3.Connection, exchange: str, agent: str, opinions: Sequence[SourceOpinion], now: float
) -> None:
    """Within the caller's transaction."""
    db.executemany(
        "INSERT OR REPLACE INTO opinions (exchange, source, agent, judge, score, detail, given_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (exchange, one.source, agent, one.judge, one.score, json.dumps(one.detail, allow_nan=False), now)
            for one in opinions
        ],
    )


def _revise(db: sqlite3.Connection, late: LateFeedback, now: float) -> Revised | None:
    if db.execute("SELECT 1 FROM late_feedback WHERE feedback = ?", (late.feedback,)).fetchone():
        return None
    before = db.execute(
        "SELECT score, judge, detail FROM judgements WHERE exchange = ? AND state = 'judged'", (late.exchange,)
    ).fetchone()
    said = SourceOpinion(source="feedback", judge="feedback", score=late.score)
    write_opinions(db, late.exchange, late.agent, [said], now)
    if not late.decides:
        return None
    changed = _decide(db, late, before, now)
    found = db.execute(
        "SELECT coalesce(sum(state = 'claimed'), 0), coalesce(sum(state IN ('consumed', 'rejected')), 0)"
        " FROM samples WHERE exchange = ?",
        (late.exchange,),
    ).fetchone()
    revised = Revised(num_changed=changed, num_claimed=found[0], num_spent=found[1])
    db.execute(
        "INSERT INTO late_feedback"
        " (feedback, exchange, agent, score_before, score, num_changed, num_claimed, num_spent, noticed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (late.feedback, late.exchange, late.agent, before["score"], late.score, changed, found[0], found[1], now),
    )
    return revised


def _decide(db: sqlite3.Connection, late: LateFeedback, before: sqlite3.Row, now: float) -> int:
    detail = json.loads(before["detail"]) | {"source": "feedback", "before": [before["judge"], before["score"]]}
    db.execute(
        "UPDATE judgements SET score = ?, judge = 'feedback', detail = ? WHERE exchange = ?",
        (late.score, json.dumps(detail), late.exchange),
    )
    return db.execute(
        "UPDATE samples SET reward = ?, changed_at = ? WHERE exchange = ? AND state = 'pending'",
        (late.score, now, late.exchange),
    ).rowcount
