"""What is asked of the memory, and what is found.

Owns the two records; refuses to know how anything is found. Invariant: a query says who asks, so that no search is ever
without an owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metaclaw.memory.units import Kind, MemoryUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuery:
    """``now`` in Unix seconds; ``min_score`` on the scale of ``Found.score``.

    A unit is visible when it is the agent's, and its scope is the agent, or this user, workspace or session. Recall
    sets ``min_trust``; a person who looks through the store finds all. ``with_history`` adds what no longer holds.
    """

    text: str
    agent: str
    now: float
    user: str | None = None
    workspace: str | None = None
    session: str | None = None
    limit: int = 8
    min_score: float = 0.0
    min_trust: float = 0.0
    kinds: tuple[Kind, ...] = ()  # none: all
    with_history: bool = False
    is_everything: bool = False  # of the agent, whatever the scope: for the person who owns the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A unit and how well it fits, 0 to about 1, with the parts that the score was made of."""

    unit: MemoryUnit
    score: float
    parts: Mapping[str, float] = field(default_factory=dict[str, float])
