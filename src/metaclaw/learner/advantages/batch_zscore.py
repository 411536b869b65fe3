"""The z-score of each exchange in its batch, as the reference system has it.

Owns that score, which is here for comparison; refuses to hide its faults: it is biased in small batches and blows up
where rewards hardly differ. Invariant: equal rewards and a single one give zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from metaclaw.journal.learning_records import Baseline
from metaclaw.learner.advantages.strategy import Advantages, mean, moved

_EPSILON = 1e-8


def batch_zscore(rewards: Sequence[float], baseline: Baseline | None, decay: float) -> Advantages:
    """``(reward - mean) / (std + 1e-8)`` over the batch; the standard deviation is that of the batch itself."""
    middle = mean(rewards)
    differences = [reward - middle if len(set(rewards)) > 1 else 0.0 for reward in rewards]
    deviation = math.sqrt(math.fsum(difference**2 for difference in differences) / len(rewards))
    scores = tuple(difference / (deviation + _EPSILON) for difference in differences)
    return scores, moved(baseline, rewards, decay)
