"""What writing and trying skills cost.

Owns the sums over ``learning.db``, read-only; refuses to know prices. Invariant: what is unknown is counted as unknown
and is never a part of a sum. What judges take is in ``paid_calls``, and not in it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.database import reading

_SCHEMA = 5  # the first that knows what replays took
_OF_EVOLVING = "SELECT prompt_tokens, completion_tokens, cost_usd FROM evolutions WHERE ?1 IS NULL OR agent = ?1"
_OF_TRIALS = """
    SELECT m.prompt_tokens, m.completion_tokens, m.cost_usd FROM comparisons AS m JOIN candidates AS c
        ON c.id = m.candidate
    WHERE m.kind = 'replay' AND (?1 IS NULL OR c.agent = ?1) AND (?2 IS NULL OR c.id = ?2)
"""
_SUMS = """
    SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
        coalesce(sum(cost_usd), 0.0), count(*) - count(prompt_tokens), count(*) - count(cost_usd)
    FROM ({})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What some asking took: the sum of what is known, and how often the tokens and the cost are unknown."""

    num_asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    num_unknown_tokens: int = 0
    num_unknown_costs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillCosts:
    """``evolving`` counts the times that skills were asked for, ``trials`` the replays."""

    evolving: Spent
    trials: Spent


def skill_costs(learning_db: Path, *, agent: str | None = None, candidate: str | None = None) -> SkillCosts:
    """What skills cost; of one agent, or the trial of one candidate. Raises ``JournalError``."""
    nothing = SkillCosts(evolving=Spent(), trials=Spent())
    if not learning_db.exists():
        return nothing
    with reading(learning_db) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] < _SCHEMA:
            return nothing  # the learner brings it up to date when it starts
        return SkillCosts(
            evolving=spent(connection, _OF_EVOLVING, (agent,)),
            trials=spent(connection, _OF_TRIALS, (agent, candidate)),
        )


def spent(connection: sqlite3.Connection, query: str, parameters: tuple[str | None, ...]) -> Spent:
    """The sums over the rows of ``query``: tokens of the prompt, of the completion, and the cost."""
    row = connection.execute(_SUMS.format(query), parameters).fetchone()
    names = ("num_asked", "prompt_tokens", "completion_tokens", "cost_usd", "num_unknown_tokens", "num_unknown_costs")
    return Spent(**dict(zip(names, row, strict=True)))
