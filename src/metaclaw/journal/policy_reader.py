"""What ``metaclaw policy`` tells of versions, updates and holds.

Owns the queries over ``learning.db``, read-only; refuses to write. Invariant: one call is one consistent snapshot, and
a file that is not there yet means that nothing was learned.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.journal.database import reading, refuse_older

_SCHEMA = 9  # the first that knows canaries
_VERSIONS = """
    SELECT v.version, v.parent, v.created_at, v.deleted_at, v.state_path, v.sampler_path, u.metrics FROM versions AS v
    JOIN updates AS u ON u.id = v.update_id WHERE v.agent = ? ORDER BY v.version
"""
_REFUSED = """
    SELECT id, parent, reason, finished_at, metrics FROM updates WHERE agent = ? AND state = 'rejected'
    ORDER BY id DESC LIMIT ?
"""
_REWARDS = """
    SELECT version, count(*) AS num, avg(reward) AS mean FROM (
        SELECT max(version) AS version, max(reward) AS reward FROM samples WHERE agent = ? GROUP BY exchange
        HAVING count(DISTINCT version) = 1
    ) GROUP BY version
"""
_HOLDS = "SELECT kind, reason, since, until FROM holds WHERE agent = ? AND (until IS NULL OR until > ?)"
_CANARY = "SELECT version, share FROM canaries WHERE agent = ?"
_HISTORY = "SELECT version, since, why FROM serving_history WHERE agent = ? ORDER BY id DESC LIMIT ?"
_BASELINE = "SELECT value, num_rewards FROM baselines WHERE agent = ?"
_MAX_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTold:
    """A version; 0 is the base model. ``mean_reward`` is of the exchanges that it alone answered."""

    version: int
    parent: int | None
    is_serving: bool
    canary_share: float | None  # of new sessions that it answers, where it is tried first
    has_weights: bool
    created_at: float | None
    state_path: str | None
    sampler_path: str | None
    num_rewards: int
    mean_reward: float | None
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTold:
    """Everything about one agent's policy: versions oldest first, the rest newest first."""

    agent: str
    serving: int
    versions: tuple[VersionTold, ...]
    refused: tuple[dict[str, Any], ...]
    holds: tuple[dict[str, Any], ...]
    history: tuple[dict[str, Any], ...]
    baseline: dict[str, Any] | None


class TrainedExchanges:
    """Which exchanges some sample is of, for whoever does not write the file."""

    def __init__(self, learning_db: Path) -> None:
        self._path = learning_db

    def with_samples(self, exchanges: Sequence[str]) -> set[str]:
        with reading(self._path) as db:
            rows = db.execute(
                "SELECT DISTINCT exchange FROM samples WHERE exchange IN (SELECT value FROM json_each(?))",
                (json.dumps(list(exchanges)),),
            ).fetchall()
        return {exchange for (exchange,) in rows}


def read_policies(learning_db: Path, *, now: float, agent: str | None = None) -> list[PolicyTold]:
    """The policies of all agents, or of one. Raises ``JournalError``, also for a file of an older release."""
    if not learning_db.exists():
        return []
    with reading(learning_db) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")
        if not refuse_older(db, learning_db, schema=_SCHEMA):
            return []  # just being made
        names = [row[0] for row in db.execute("SELECT agent FROM updates UNION SELECT agent FROM holds ORDER BY agent")]
        return [_policy(db, name, now) for name in names if agent in (None, name)]


def _policy(db: sqlite3.Connection, agent: str, now: float) -> PolicyTold:
    row = db.execute("SELECT version FROM serving WHERE agent = ?", (agent,)).fetchone()
    serving = 0 if row is None else row["version"]
    tried = {row["version"]: row["share"] for row in db.execute(_CANARY, (agent,)).fetchall()}
    rewards = {row["version"]: (row["num"], row["mean"]) for row in db.execute(_REWARDS, (agent,)).fetchall()}

    def told(version: int, **known: Any) -> VersionTold:
        num, mean = rewards.get(version, (0, None))
        return VersionTold(
            version=version, is_serving=version == serving, canary_share=tried.get(version), num_rewards=num,
            mean_reward=mean, **known,
        )  # fmt: skip

    base = told(0, parent=None, has_weights=True, created_at=None, state_path=None, sampler_path=None, metrics={})
    versions = [
        told(
            row["version"], parent=row["parent"], has_weights=row["deleted_at"] is None, created_at=row["created_at"],
            state_path=row["state_path"], sampler_path=row["sampler_path"], metrics=json.loads(row["metrics"]),
        )
        for row in db.execute(_VERSIONS, (agent,)).fetchall()
    ]  # fmt: skip
    refused = [dict(row) for row in db.execute(_REFUSED, (agent, _MAX_LISTED)).fetchall()]
    return PolicyTold(
        agent=agent,
        serving=serving,
        versions=(base, *versions),
        refused=tuple({**one, "metrics": json.loads(one["metrics"])} for one in refused),
        holds=tuple(dict(row) for row in db.execute(_HOLDS, (agent, now)).fetchall()),
        history=tuple(dict(row) for row in db.execute(_HISTORY, (agent, _MAX_LISTED)).fetchall()),
        baseline=next((dict(row) for row in db.execute(_BASELINE, (agent,)).fetchall()), None),
    )
