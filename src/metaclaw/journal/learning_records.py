"""What is recorded of learning.

Owns the plain data that goes into and comes out of ``learning.db``; refuses to know SQL. Invariant: paths and turn
ids are whole names, so that a record says by itself what it is about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

JudgementState = Literal["judged", "failed"]
UpdateState = Literal["running", "committed", "rejected", "aborted"]
JsonObject = dict[str, Any]

BASE_VERSION = 0  # the base model without an adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on an exchange. ``score`` is ``None`` exactly when ``state`` is ``failed``.

    ``outages`` are those of its ``attempts`` that reached no judge.
    """

    exchange: str
    agent: str
    state: JudgementState
    score: float | None
    judge: str
    detail: JsonObject
    attempts: int
    outages: int
    judged_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One trainable turn with its reward. ``version`` is the policy version that sampled it.

    ``generation`` is that of the agent's skills when the turn was opened; the journal gives it.
    """

    turn: str
    exchange: str
    agent: str
    version: int
    reward: float
    sampled_at: float
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSplit:
    """An agent's generation of skills now, and the turns (``support``) that its adopted skills were learned from.

    An update trains on what came under this generation alone, and never on what taught it (the query set of MetaClaw,
    arXiv 2603.17187): a reward from before a skill says nothing of how the policy does with it.
    """

    generation: int = 0
    support: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The expected reward of an agent and the number of rewards behind it."""

    value: float
    num_rewards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version about to be committed; its number is the journal's to give.

    ``saved_as`` is the name that was written down before it was saved.
    """

    base_model: str
    state_path: str
    sampler_path: str
    saved_as: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A committed version of an agent's policy. Since ``deleted_at`` its weights are given up."""

    agent: str
    version: int
    parent: int
    update_id: int
    base_model: str
    state_path: str
    sampler_path: str
    created_at: float
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A version that answers ``share`` of an agent's new sessions since then, and does not serve the others."""

    agent: str
    version: int
    share: float
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One optimiser step and how it ended."""

    id: int
    agent: str
    parent: int
    state: UpdateState
    reason: str | None
    started_at: float
    finished_at: float | None
    metrics: JsonObject = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a start found unfinished: updates that became aborted, their samples that are pending again, and how often
    weights were saved, or about to be, that no version has."""

    updates: int
    samples: int
    weights: int
