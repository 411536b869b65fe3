"""What the journal holds, in numbers.

Owns the sums over ``turns.db``, read-only; refuses to write. Invariant: a turn of unknown price is counted as that, not
as free.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.database import reading

SUMS = """
    agent, count(*) AS turns, coalesce(sum(state = 'failed'), 0) AS failed, coalesce(sum(state = 'cut'), 0) AS cut,
    coalesce(sum(prompt_tokens), 0) AS prompt_tokens, coalesce(sum(completion_tokens), 0) AS completion_tokens,
    coalesce(sum(cost_usd), 0.0) AS cost_usd, sum(prompt_tokens IS NOT NULL AND cost_usd IS NULL) AS unpriced
"""
_BY_AGENT = f"SELECT {SUMS} FROM turns GROUP BY agent ORDER BY agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatistics:
    """The sums over an agent's turns; ``unpriced`` have a usage and no known price."""

    agent: str
    turns: int
    failed: int
    cut: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    unpriced: int


def read_statistics(turns_db: Path) -> list[AgentStatistics]:
    """The sums by agent. Raises ``JournalError``."""
    with reading(turns_db) as connection:
        connection.row_factory = sqlite3.Row
        return [AgentStatistics(**dict(row)) for row in connection.execute(_BY_AGENT).fetchall()]
