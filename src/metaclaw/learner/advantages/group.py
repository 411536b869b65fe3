"""How much better an answer was than others to the same prompt.

Owns that difference; refuses to know who drew the answers, and when. Invariant: a group sums to zero, equal rewards are
zeros, and there is no division by a standard deviation: that would blow up groups in which next to nothing differs, and
weigh a prompt by how unsure the policy is about it.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.advantages.strategy import mean


def within_group(rewards: Sequence[float]) -> tuple[float, ...]:
    """``reward`` minus the mean of the group."""
    middle = mean(rewards)
    return tuple(reward - middle if len(set(rewards)) > 1 else 0.0 for reward in rewards)
