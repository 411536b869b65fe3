"""How much better each exchange was than the agent's own average.

Owns the moving reward baseline of an agent; refuses to know tokens and storage. Invariant: the baseline that a reward
is measured against never contains that reward, so a single sample and equal rewards give no gradient and no NaN, and no
division by a standard deviation ever blows up a small batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.journal.learning_records import Baseline
from metaclaw.learner.advantages.leave_one_out import against_the_others
from metaclaw.learner.advantages.strategy import Advantages, mean


def ema_baseline(rewards: Sequence[float], baseline: Baseline | None, decay: float) -> Advantages:
    """``reward - baseline`` for each exchange in order.

    In an agent's first batch each reward is measured against the mean of the others; later against an exponential
    moving average of all rewards before it.
    """
    if baseline is None:
        return against_the_others(rewards), Baseline(value=mean(rewards), num_rewards=len(rewards))
    value, differences = baseline.value, list[float]()
    for reward in rewards:
        differences.append(reward - value)
        value += (1 - decay) * (reward - value)
    return tuple(differences), Baseline(value=value, num_rewards=baseline.num_rewards + len(rewards))
