"""Is a version at most a margin worse? A decision that may be asked for after every comparison.

Owns the decision from the differences; refuses to know who compared. Invariant: a version that is worse by more than
the margin passes at most as often as ``error`` says, whenever one looks, and the end of the budget is never evidence.

The differences are those of questions drawn at random, with replacement, so their mean is that of all the questions;
the bets are those of ``metaclaw.skills.trial.sequential``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metaclaw.skills.trial.sequential import Observation, capital_above, capital_below


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the differences say: ``evidence`` is what the bet on "not worse by the margin" made of a stake of 1."""

    outcome: Literal["passes", "worse", "undecided"]
    mean: float
    evidence: float


def compare(differences: Sequence[float], *, margin: float, error: float) -> Comparison:
    """Decide on ``differences`` in [-1, 1], the new version's score less the serving one's."""
    observations = [Observation(value=difference) for difference in differences]
    evidence = capital_above(observations, -margin)
    mean = sum(differences) / len(differences) if differences else 0.0
    if evidence >= 1 / error:
        return Comparison(outcome="passes", mean=mean, evidence=evidence)
    is_worse = capital_below(observations, -margin) >= 1 / error
    return Comparison(outcome="worse" if is_worse else "undecided", mean=mean, evidence=evidence)
