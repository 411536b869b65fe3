"""What an update is made of, and what became of it so far.

Owns the plain data between the steps of an update; refuses to know the steps. Invariant: a candidate may be examined
further only while what it was made of stands (``stands``); else it was trained on something that is not so any more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from metaclaw.journal.learning_records import NewVersion, Sample
from metaclaw.journal.lessons import TaughtTurn
from metaclaw.learner.backends.backend import SavedWeights
from metaclaw.learner.batches import Batch
from metaclaw.learner.datums import TrainingTurn
from metaclaw.learner.gate.finished import Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that an update needs to know before it begins."""

    number: int
    batch: Batch
    recorded: tuple[TrainingTurn, ...]
    updates: int  # from the base model to the version that it starts from
    excluded: Counter[str]

    @property
    def turns(self) -> tuple[str, ...]:
        return tuple(sample.turn for sample in self.batch.samples)

    @property
    def rewards(self) -> dict[str, float]:
        """That each turn was chosen by."""
        return {sample.turn: sample.reward for sample in self.batch.samples}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version that was saved and does not serve, of which ``finished`` is what its examination has shown so far."""

    parent: int
    prepared: Prepared
    saved: SavedWeights
    base_model: str
    masked: tuple[str, ...]
    lessons: tuple[TaughtTurn, ...]
    metrics: dict[str, object]
    seconds: defaultdict[str, float]
    finished: Finished = field(default_factory=Finished)

    @property
    def version(self) -> NewVersion:
        return self.saved.as_version(self.base_model)

    def stands(self, parent: int, pending: Iterable[Sample]) -> bool:
        """Whether ``parent``, which serves now, is its own, and all its samples wait with the rewards that it saw."""
        return parent == self.parent and set(self.prepared.batch.samples) <= set(pending)
