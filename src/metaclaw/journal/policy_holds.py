"""Why an agent's policy is not updated, and how a version that serves does.

Owns the holds in ``learning.db`` and the rewards by version; refuses to know what follows from them. Invariant: a hold
is in force until its time is over or it is taken away, whatever serves; a reward counts once, for the version that
gave every answer of its exchange.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from metaclaw.journal.learning_connection import LearningConnection

HoldKind = Literal["pin", "cooldown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """``until`` of ``None`` is for ever."""

    agent: str
    kind: HoldKind
    reason: str
    since: float
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSince:
    """Which version serves an agent, and since when."""

    agent: str
    version: int
    since: float


class PolicyHolds(LearningConnection):
    """A connection of its own, for the learner's process alone."""

    def hold(self, agent: str, kind: HoldKind, reason: str, *, for_s: float | None = None) -> None:
        """Have ``agent`` not updated, for ever or for a time. A hold of the same kind is replaced."""
        now = self._clock()
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO holds (agent, kind, reason, since, until) VALUES (?, ?, ?, ?, ?)",
                (agent, kind, reason, now, None if for_s is None else now + for_s),
            )

    def release(self, agent: str, kind: HoldKind) -> bool:
        """Take a hold away; return whether there was one."""
        with self._write() as db:
            return bool(db.execute("DELETE FROM holds WHERE agent = ? AND kind = ?", (agent, kind)).rowcount)

    def holds(self, agent: str) -> list[Hold]:
        """What keeps ``agent`` from being updated now.

        A clock that was set back makes a hold no longer than twice what it was to be.
        """
        with self._read() as db:
            rows = db.execute(
                """
                SELECT * FROM holds WHERE agent = ?1
                    AND (until IS NULL OR until > ?2 AND until - ?2 <= 2 * (until - since))
                ORDER BY kind DESC
                """,
                (agent, self._clock()),
            ).fetchall()
        return [Hold(**dict(row)) for row in rows]

    def serving(self) -> list[ServingSince]:
        """What serves each agent that a version was ever made for."""
        with self._read() as db:
            rows = db.execute("SELECT agent, version, since FROM serving ORDER BY agent").fetchall()
        return [ServingSince(**dict(row)) for row in rows]

    def rewards(self, agent: str, versions: Collection[int], *, since: float, limit: int, newest: bool) -> list[float]:
        """Rewards of exchanges that some of ``versions`` answered after ``since``, newest or oldest first.

        A ``since`` that is still to come was written down before the clock was set back, and leaves nothing out.
        """
        since = since if since <= self._clock() else 0.0
        order = "DESC" if newest else "ASC"
        with self._read() as db:
            rows = db.execute(
                f"""
                SELECT max(reward) AS reward, min(sampled_at) AS at FROM samples
                WHERE agent = ? AND sampled_at >= ? GROUP BY exchange
                HAVING count(DISTINCT version) = 1 AND max(version) IN (SELECT value FROM json_each(?))
                ORDER BY at {order}, exchange LIMIT ?
                """,
                (agent, since, json.dumps(list(versions)), limit),
            ).fetchall()
        return [row["reward"] for row in rows]
