"""What is recorded of judging and teaching, for ``metaclaw judge stats`` and ``metaclaw status``.

Owns the queries over ``learning.db``, read-only; refuses to reckon with what it finds. Invariant: one call is one
consistent snapshot; of a database of an older release it says so, but for what was spent.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.database import reading, refuse_older
from metaclaw.journal.paid_calls import Purpose, calls_in

_SCHEMA = 7  # the first that knows opinions
_WHERE = "agent = :agent AND {} >= :since"
_ASKED: Mapping[str, Purpose] = {"exchange": "judging", "pair": "comparing"}  # as people are told of it


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsSpent:
    """What asking a model took. ``num_unknown_costs`` of the answers have no known price."""

    num_answers: int = 0
    tokens: int = 0
    num_estimates: int = 0
    cost_usd: float = 0.0
    num_unknown_costs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFacts:
    """Of one agent. ``pairs`` are a judge's and a person's score of the same exchange, by source."""

    agent: str
    judged: dict[str, int]  # by the source that decided
    unjudged: dict[str, int]  # by the cause of the last failure
    pairs: dict[str, list[tuple[float, float]]]
    votes: list[tuple[list[float], int]]  # the valid votes on an exchange, and how many were not valid
    late: dict[str, int]
    spent: dict[str, CallsSpent]  # by what was asked


def read_facts(learning_db: Path, *, agent: str | None = None, since: float = 0.0) -> list[JudgeFacts]:
    """What is known of each agent's judging. Raises ``JournalError``, also for a file of an older release."""
    with _snapshot(learning_db) as db:
        if db is None or not refuse_older(db, learning_db, schema=_SCHEMA):
            return []
        names = (
            f"SELECT agent FROM judgements UNION SELECT agent FROM {calls_in(db)}"
            " WHERE purpose IN ('judging', 'comparing') ORDER BY agent"
        )
        agents = [row[0] for row in db.execute(names).fetchall() if agent in (None, row[0])]
        return [_facts(db, one, since) for one in agents]


def read_spent(learning_db: Path, purpose: Purpose, *, since: float) -> CallsSpent:
    """What ``purpose`` took, of all agents. Raises ``JournalError``."""
    with _snapshot(learning_db) as db:
        if db is None or db.execute("PRAGMA user_version").fetchone()[0] < _SCHEMA:
            return CallsSpent()  # nothing was counted before
        return _spent(db, purpose, since)


@contextmanager
def _snapshot(learning_db: Path) -> Generator[sqlite3.Connection | None]:
    if not learning_db.exists():
        yield None
        return
    with reading(learning_db) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield connection


_SPENT = """
    SELECT count(*) AS num_answers, coalesce(sum(tokens), 0) AS tokens, coalesce(sum(is_estimate), 0) AS num_estimates,
        coalesce(sum(cost_usd), 0.0) AS cost_usd, count(*) - count(cost_usd) AS num_unknown_costs
    FROM {} WHERE purpose = ?1 AND called_at >= ?2 AND (?3 IS NULL OR agent = ?3)
"""
_PAIRS = f"""
    SELECT o.source, o.score, f.score AS said FROM opinions AS o JOIN opinions AS f
        ON f.exchange = o.exchange AND f.source = 'feedback'
    WHERE o.source <> 'feedback' AND {_WHERE.format("o.given_at").replace("agent", "o.agent", 1)}
"""
_LATE = f"""
    SELECT count(*) AS num_feedback, coalesce(sum(num_changed), 0) AS num_changed,
        coalesce(sum(num_claimed), 0) AS num_claimed, coalesce(sum(num_spent), 0) AS num_spent
    FROM late_feedback WHERE {_WHERE.format("noticed_at")}
"""


def _facts(db: sqlite3.Connection, agent: str, since: float) -> JudgeFacts:
    about = {"agent": agent, "since": since}
    judged, unjudged = Counter[str](), Counter[str]()
    for row in db.execute(f"SELECT state, judge, detail FROM judgements WHERE {_WHERE.format('judged_at')}", about):
        detail = json.loads(row["detail"])
        if row["state"] == "judged":
            judged[detail.get("source") or _older_source(row["judge"])] += 1
        else:
            unjudged[detail.get("cause") or ("no_opinion" if detail.get("no_opinion") else "unknown")] += 1
    pairs = dict[str, list[tuple[float, float]]]()
    for row in db.execute(_PAIRS, about):
        pairs.setdefault(row["source"], []).append((row["score"], row["said"]))
    votes = [
        json.loads(row["detail"])
        for row in db.execute(
            f"SELECT detail FROM opinions WHERE source = 'llm' AND {_WHERE.format('given_at')}", about
        )
    ]
    return JudgeFacts(
        agent=agent,
        judged=dict(judged),
        unjudged=dict(unjudged),
        pairs=pairs,
        votes=[(one.get("votes", []), len(one.get("invalid", []))) for one in votes],
        late=dict(db.execute(_LATE, about).fetchone()),
        spent={asked: _spent(db, purpose, since, agent) for asked, purpose in _ASKED.items()},
    )


def _older_source(judge: str | None) -> str:
    """What decided, of a verdict from before verdicts said so: models had this mark in their judge's name."""
    return "llm" if judge and judge.startswith("llm:") else "unknown"


def _spent(db: sqlite3.Connection, purpose: Purpose, since: float, agent: str | None = None) -> CallsSpent:
    row = db.execute(_SPENT.format(calls_in(db)), (purpose, since, agent)).fetchone()
    return CallsSpent(**dict(row))
