"""Whether the base model still takes the answers for language.

Owns the rise of the base model's surprise, which is what text that falls apart shows first; refuses to know meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.pairs import AnsweredPair, mean


def _rise(pairs: Sequence[AnsweredPair]) -> float:
    candidate = mean([-logprob for pair in pairs for logprob in pair.candidate.base])
    return candidate - mean([-logprob for pair in pairs for logprob in pair.served.base])


PLAUSIBILITY = Check(
    name="nll_rise",
    setting="rl.gate.max_nll_rise",
    what="the base model's negative log-likelihood of the answers rose, in nats per token",
    limit=lambda limits: limits.max_nll_rise,
    measure=_rise,
)
