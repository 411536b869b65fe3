"""What ``metaclaw status`` says of learning.

Owns the queries over ``learning.db``, read-only; refuses to write. Invariant: one call is one consistent snapshot.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.journal.database import reading

_AGENTS = """
    SELECT agent FROM judgements UNION SELECT agent FROM samples UNION SELECT agent FROM versions ORDER BY agent
"""
_COUNTS = """
    SELECT
        coalesce((SELECT version FROM serving WHERE agent = :agent), 0) AS serving,
        (SELECT count(*) FROM versions WHERE agent = :agent) AS num_versions,
        (SELECT count(*) FROM judgements WHERE agent = :agent AND state = 'judged') AS judged,
        (SELECT count(*) FROM judgements WHERE agent = :agent AND state = 'failed') AS failed,
        (SELECT count(*) FROM samples WHERE agent = :agent AND state = 'pending') AS pending,
        (SELECT count(*) FROM samples WHERE agent = :agent AND state = 'consumed') AS consumed
"""
_LAST = (
    "SELECT id, state, reason, metrics, started_at, finished_at FROM updates WHERE agent = ? ORDER BY id DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUpdate:
    """The newest update of an agent."""

    id: int
    state: str
    reason: str | None
    metrics: dict[str, Any]
    started_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """How far an agent's learning is. ``judged`` and ``failed`` count exchanges, ``pending`` and ``consumed`` turns."""

    agent: str
    serving: int
    num_versions: int
    judged: int
    failed: int
    pending: int
    consumed: int
    last_update: LastUpdate | None


def read_status(learning_db: Path) -> list[AgentStatus]:
    """The status of each agent; empty when nothing was learned yet. Raises ``JournalError``."""
    if not learning_db.exists():
        return []
    with reading(learning_db) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            return []  # the learner is creating the file at this moment
        agents = [row["agent"] for row in connection.execute(_AGENTS).fetchall()]
        return [_agent_status(connection, agent) for agent in agents]


def _agent_status(connection: sqlite3.Connection, agent: str) -> AgentStatus:
    counts = connection.execute(_COUNTS, {"agent": agent}).fetchone()
    last = connection.execute(_LAST, (agent,)).fetchone()
    update = None if last is None else LastUpdate(**{**dict(last), "metrics": json.loads(last["metrics"])})
    return AgentStatus(agent=agent, last_update=update, **dict(counts))
