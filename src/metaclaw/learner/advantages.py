"""How much better than expected each exchange was.

Owns the reward baseline of an agent; refuses to know tokens and storage. Invariant: the baseline that a reward is
measured against never contains that reward, so a single sample and equal rewards give no gradient and no NaN, and no
division by a standard deviation ever blows up a small batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from metaclaw.journal.learning_records import Baseline

INFORMATIVE = 0.05  # an exchange closer than this to its baseline teaches next to nothing


def surprises(rewards: Sequence[float], baseline: Baseline | None, decay: float) -> tuple[tuple[float, ...], Baseline]:
    """``reward - baseline`` for each exchange in order, and the baseline after all of them.

    In an agent's first batch each reward is measured against the mean of the others; later against an exponential
    moving average of all rewards before it. ``rewards`` must not be empty.
    """
    if baseline is None:
        return _leave_one_out(rewards), Baseline(value=_mean(rewards), num_rewards=len(rewards))
    value, differences = baseline.value, list[float]()
    for reward in rewards:
        differences.append(reward - value)
        value += (1 - decay) * (reward - value)
    return tuple(differences), Baseline(value=value, num_rewards=baseline.num_rewards + len(rewards))


def num_informative(differences: Sequence[float]) -> int:
    """How many exchanges were surprising enough to learn from."""
    return sum(abs(difference) > INFORMATIVE for difference in differences)


def _leave_one_out(rewards: Sequence[float]) -> tuple[float, ...]:
    if len(rewards) == 1:
        return (0.0,)
    # r - mean of the others = (r - mean of all) * n / (n - 1); fsum makes it the same in every order.
    mean, scale = _mean(rewards), len(rewards) / (len(rewards) - 1)
    return tuple((reward - mean) * scale for reward in rewards)


def _mean(rewards: Sequence[float]) -> float:
    return math.fsum(rewards) / len(rewards)
