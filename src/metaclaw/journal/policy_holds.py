"""Why an agent's policy is not updated, and how a version that serves does.

Owns the holds in ``learning.db`` and the rewards by version; refuses to know what follows from them. Invariant: a hold
is in force until its time is over or it is taken away, whatever serves; a reward counts once, for the version that
gave every answer of its exchange.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.learning import Clock

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


class PolicyHolds:
    """A connection of its own, for the learner's process alone. Any thread may use it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock = time.time) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, clock: Clock = time.time) -> PolicyHolds:
        """Open ``learning.db``; raises ``JournalError``."""
        return cls(open_writer(path, "learning"), clock)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def hold(self, agent: str, kind: HoldKind, reason: str, *, for_s: float | None = None) -> None:
        """Have ``agent`` not updated, for ever or for a time. A hold of the same kind is replaced."""
        now = self._clock()
        with self._lock, transaction(self._connection):
            self._connection.execute(
                "INSERT OR REPLACE INTO holds (agent, kind, reason, since, until) VALUES (?, ?, ?, ?, ?)",
                (agent, kind, reason, now, None if for_s is None else now + for_s),
            )

    def release(self, agent: str, kind: HoldKind) -> bool:
        """Take a hold away; return whether there was one."""
        with self._lock, transaction(self._connection):
            return bool(
                self._connection.execute("DELETE FROM holds WHERE agent = ? AND kind = ?", (agent, kind)).rowcount
            )

    def holds(self, agent: str) -> list[Hold]:
        """What keeps ``agent`` from being updated now."""
        with self._read() as db:
            rows = db.execute(
                "SELECT * FROM holds WHERE agent = ? AND (until IS NULL OR until > ?) ORDER BY kind DESC",
                (agent, self._clock()),
            ).fetchall()
        return [Hold(**dict(row)) for row in rows]

    def serving(self) -> list[ServingSince]:
        """What serves each agent that a version was ever made for."""
        with self._read() as db:
            rows = db.execute("SELECT agent, version, since FROM serving ORDER BY agent").fetchall()
        return [ServingSince(**dict(row)) for row in rows]

    def rewards(self, agent: str, versions: Collection[int], *, since: float, limit: int, newest: bool) -> list[float]:
        """Rewards of exchanges that some of ``versions`` answered after ``since``, newest or oldest first."""
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

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            yield self._connection
