"""How much better each exchange was than the others of its batch.

Owns that difference (RLOO, arXiv 2402.14740); refuses to know what came before the batch. Invariant: a reward is never
part of what it is measured against, and a batch sums to zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.journal.learning_records import Baseline
from metaclaw.learner.advantages.strategy import Advantages, mean, moved


def leave_one_out(rewards: Sequence[float], baseline: Baseline | None, decay: float) -> Advantages:
    """``reward`` minus the mean of all others; zero where there are none."""
    return against_the_others(rewards), moved(baseline, rewards, decay)


def against_the_others(rewards: Sequence[float]) -> tuple[float, ...]:
    """The differences alone."""
    if len(rewards) == 1:
        return (0.0,)
    # r - mean of the others = (r - mean of all) * n / (n - 1); fsum makes it the same in every order.
    middle, scale = mean(rewards), len(rewards) / (len(rewards) - 1)
    return tuple((reward - middle) * scale for reward in rewards)
