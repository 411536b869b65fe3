"""Which pending samples an update takes, or why it must wait.

Owns the limits of age, staleness and size; refuses to know tokens and storage. Invariant: an exchange is taken whole,
each sample that is left out stays pending or is expired by a named rule, and the choice depends on its arguments alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaclaw.config import UpdateSettings
from metaclaw.journal.learning_records import Baseline, Sample, SkillSplit
from metaclaw.learner.advantages.choice import STRATEGIES
from metaclaw.learner.advantages.strategy import num_informative
from metaclaw.learner.lineage import Lineage

_DAY_S = 86_400.0
_NO_SKILLS = SkillSplit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What an update trains on. ``surprise`` is the advantage of each exchange: how much better than expected."""

    samples: tuple[Sample, ...]
    surprise: Mapping[str, float]
    baseline: Baseline | None
    baseline_after: Baseline
    mean_reward: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``batch`` is ``None`` while an update must wait, and ``waiting`` says for what."""

    batch: Batch | None
    waiting: str
    expired: Mapping[str, tuple[str, ...]]  # rule -> turns


def select(
    pending: Sequence[Sample],
    *,
    parent: int,
    lineage: Lineage,
    baseline: Baseline | None,
    now: float,
    limits: UpdateSettings,
    split: SkillSplit = _NO_SKILLS,
) -> Selection:
    """Choose the oldest exchanges that are young enough for an update of version ``parent``."""
    support, oldest = _apart(pending, split)
    expired: dict[str, tuple[str, ...]] = defaultdict(tuple)
    fresh: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(pending, key=lambda sample: (sample.sampled_at, sample.turn)):
        rule = "skill_support" if sample.exchange in support else None
        rule = rule or ("older_generation" if oldest[sample.exchange] < split.generation else None)
        rule = rule or _too_old(sample, lineage.distance(parent, sample.version), now, limits)
        if rule is None:
            fresh[sample.exchange].append(sample)
        else:
            expired[rule] += (sample.turn,)
    taken = list(fresh.values())[: limits.max_exchanges]
    if len(taken) < limits.min_exchanges:
        return Selection(
            batch=None, waiting=f"{len(taken)} of {limits.min_exchanges} judged exchanges", expired=expired
        )
    batch = _batch(taken, baseline, limits)
    informative = num_informative(list(batch.surprise.values()))
    if informative >= limits.min_informative or not limits.waits_for_rewards:
        return Selection(batch=batch, waiting="", expired=expired)
    if len(taken) == limits.max_exchanges:
        # A full batch without signal would wait for ever, and everything after it too.
        expired["uninformative"] = tuple(sample.turn for sample in batch.samples)
    waiting = f"{informative} of {limits.min_informative} exchanges that differ from the baseline"
    return Selection(batch=None, waiting=waiting, expired=expired)


def _apart(pending: Sequence[Sample], split: SkillSplit) -> tuple[set[str], dict[str, int]]:
    """The exchanges that a skill was learned from, and the generation of each: that in which it began."""
    oldest: dict[str, int] = {}
    for sample in pending:
        oldest[sample.exchange] = min(sample.generation, oldest.get(sample.exchange, sample.generation))
    return {sample.exchange for sample in pending if sample.turn in split.support}, oldest


def _too_old(sample: Sample, distance: int | None, now: float, limits: UpdateSettings) -> str | None:
    if distance is None or distance > limits.max_staleness:
        return "stale"
    return "too_old" if now - sample.sampled_at > limits.max_age_days * _DAY_S else None


def _batch(exchanges: Sequence[Sequence[Sample]], baseline: Baseline | None, limits: UpdateSettings) -> Batch:
    rewards = [samples[0].reward for samples in exchanges]
    differences, after = STRATEGIES[limits.advantage](rewards, baseline, limits.baseline_decay)
    return Batch(
        samples=tuple(sample for samples in exchanges for sample in samples),
        surprise={samples[0].exchange: value for samples, value in zip(exchanges, differences, strict=True)},
        baseline=baseline,
        baseline_after=after,
        mean_reward=sum(rewards) / len(rewards),
    )
