"""Whether the version still has alternatives.

Owns the fall of the entropy, estimated from the answers that each version drew; refuses to know what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.pairs import AnsweredPair, mean

_CERTAIN = 0.1  # nats per token: who is as sure as that before has nothing to lose


def _fall(pairs: Sequence[AnsweredPair]) -> float:
    before = mean([-logprob for pair in pairs for logprob in pair.served.own])
    after = mean([-logprob for pair in pairs for logprob in pair.candidate.own])
    return (before - after) / max(before, _CERTAIN)


ENTROPY = Check(
    name="entropy_fall",
    setting="rl.gate.max_entropy_fall",
    what="the entropy of its answers fell, as a share of what it was",
    limit=lambda limits: limits.max_entropy_fall,
    measure=_fall,
)
