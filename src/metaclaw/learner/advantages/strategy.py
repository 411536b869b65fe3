"""What every way of reckoning an advantage promises.

Owns the protocol and the baseline that is kept whatever the strategy, so that changing it needs no fresh start; refuses
to know the strategies. Invariant: rewards in, as many finite numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from metaclaw.journal.learning_records import Baseline

INFORMATIVE = 0.05  # an exchange closer than this to what was expected teaches next to nothing

Advantages = tuple[tuple[float, ...], Baseline]


class Strategy(Protocol):
    """How much better than expected each exchange of a batch was, in order, and the agent's baseline after it."""

    def __call__(self, rewards: Sequence[float], baseline: Baseline | None, decay: float) -> Advantages:
        """``rewards`` is not empty; ``decay`` is that of the baseline."""
        ...


def num_informative(advantages: Sequence[float]) -> int:
    """How many exchanges were surprising enough to learn from."""
    return sum(abs(advantage) > INFORMATIVE for advantage in advantages)


def moved(baseline: Baseline | None, rewards: Sequence[float], decay: float) -> Baseline:
    """The exponential moving average after ``rewards``; their mean where there was none."""
    if baseline is None:
        return Baseline(value=mean(rewards), num_rewards=len(rewards))
    value = baseline.value
    for reward in rewards:
        value += (1 - decay) * (reward - value)
    return Baseline(value=value, num_rewards=baseline.num_rewards + len(rewards))


def mean(rewards: Sequence[float]) -> float:
    """The same in every order of the rewards."""
    return math.fsum(rewards) / len(rewards)
