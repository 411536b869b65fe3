"""Do the rewards of a version fall behind those before it? A test that may be looked at after every reward.

Owns the evidence; refuses to know where rewards come from. Invariant: a version that is as good as those before it is
accused at most as often as ``error`` says over its whole life, whenever one looks.

Each reward of the version is set against one of those before it, the oldest against the newest, and the bet of
``metaclaw.skills.trial.sequential`` is on a mean difference below 0. So nothing is assumed about how rewards are
distributed, and the mean of before, which is known from few rewards only, adds no error. What it cannot tell apart is
a version that got worse and requests that got harder; a canary share sets one against the other at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metaclaw.skills.trial.sequential import Observation, capital_below


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """``mean`` is of the differences, where from always right to always wrong is -1."""

    is_proven: bool
    mean: float
    num_pairs: int
    evidence: float


def decline(rewards: Sequence[float], before: Sequence[float], *, error: float) -> Decline:
    """What ``rewards`` (oldest first) say against those ``before`` (newest first); all are in [-1, 1]."""
    pairs = [Observation(value=(now - then) / 2) for now, then in zip(rewards, before, strict=False)]
    evidence = capital_below(pairs)
    return Decline(
        is_proven=evidence >= 1 / error,
        mean=sum(pair.value for pair in pairs) / len(pairs) if pairs else 0.0,
        num_pairs=len(pairs),
        evidence=evidence,
    )
