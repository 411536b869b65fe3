"""What is recorded of skills that a model wrote.

Owns the plain data that goes into and comes out of the skill tables of ``learning.db``; refuses to know SQL. Invariant:
a candidate's text never changes once it is on trial, so that what was tried is what is adopted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CandidateState = Literal["trial", "adopted", "rejected", "retired"]
ComparisonKind = Literal["replay", "experiment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSkill:
    """The skill that a candidate is an edit of, as it was then."""

    description: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCandidate:
    """A skill that a model proposes. ``exchanges`` and ``turns`` are the failures that it was written for."""

    id: str
    agent: str
    name: str
    description: str
    body: str
    base: BaseSkill | None
    why: str
    author: str
    exchanges: tuple[str, ...]
    turns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Since when a candidate is served to a share of turns; ``usual`` is the mean reward before."""

    since: float
    share: float
    usual: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(NewCandidate):
    """A candidate as read back, and how it fares."""

    state: CandidateState
    reason: str
    created_at: float
    changed_at: float
    experiment: Experiment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a candidate changed in one exchange.

    A replay has both scores; an experiment the one of its arm. ``void`` says why it tells nothing. What the answers of
    a replay took is ``None`` where it is unknown, which is not 0.
    """

    candidate: str
    exchange: str
    kind: ComparisonKind
    fits: bool
    with_score: float | None = None
    without_score: float | None = None
    void: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """What an evolver proposed, or why there is nothing. What its answers took is ``None`` where it is unknown, which
    is not 0.
    """

    agent: str
    author: str
    num_failures: int
    refused: tuple[str, ...] = ()
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Utility:
    """What came of recalling a skill: observed, not compared, so other causes may be behind it.

    The means are of judged exchanges with it, and of the agent's others since it was first recalled.
    """

    agent: str
    skill: str
    num_recalled: int
    first_at: float
    last_at: float
    num_with: int
    mean_with: float | None
    num_without: int
    mean_without: float | None
