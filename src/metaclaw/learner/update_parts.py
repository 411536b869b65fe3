"""What an ``Updater`` is made of.

Owns the plain data; refuses to know how an update is made. Invariant: all that the settings say of updates is in
``UpdateRules``, and nothing of them is read later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.config import Settings, UpdateSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.learner.backends.backend import TrainingBackend
from metaclaw.learner.distillation.teaching import Teaching
from metaclaw.learner.gate.examination import Examiner
from metaclaw.learner.rollouts import Rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateParts:
    """Who works on an update: what was recorded and judged, who trains, teaches and examines."""

    journal: LearningJournal
    turns_db: Path
    holds: PolicyHolds
    backend: TrainingBackend
    gate: Examiner
    teaching: Teaching = field(default_factory=lambda: Teaching(()))
    rollouts: Rollouts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRules:
    """What the settings say of updates.

    ``ranks`` are those of agents whose adapter has another rank than the rest; ``resume_from`` is a saved state that
    agents without a version begin with; ``canary_share`` the share of sessions that a version answers first;
    ``teacher`` a version of an agent whose weights stay, because it teaches.
    """

    update: UpdateSettings
    ranks: Mapping[str, int] = field(default_factory=dict[str, int])
    resume_from: str = ""
    canary_share: float = 0.0
    teacher: tuple[str, int] | None = None

    @classmethod
    def of(cls, settings: Settings) -> UpdateRules:
        """Those of ``settings``."""
        own = settings.agents.named.items()
        return cls(
            update=settings.rl.update,
            ranks={agent: one.lora.rank for agent, one in own if one.lora.rank is not None},
            resume_from=settings.rl.resume_from,
            canary_share=settings.rl.gate.canary_share,
            teacher=settings.rl.own_teacher,
        )
