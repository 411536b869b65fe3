"""How far the answers are from what other versions would say.

Owns the estimate of a KL divergence from drawn answers; refuses to know its limits' reasons. Invariant: the estimate is
never negative, and at temperature 1 its expectation is the divergence per token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.pairs import AnsweredPair, mean


def _kl(logprobs: Iterable[tuple[float, float]]) -> float:
    """``exp(d) - 1 - d`` with ``d`` the log-probability under the other version minus the own one (Schulman's k3)."""
    return mean([_term(other - own) for own, other in logprobs])


def _term(change: float) -> float:
    return math.inf if change > 700 else math.expm1(change) - change


def _from_serving(pairs: Sequence[AnsweredPair]) -> float:
    return _kl(both for pair in pairs for both in zip(pair.candidate.own, pair.candidate.serving, strict=True))


def _from_base(pairs: Sequence[AnsweredPair]) -> float:
    return _kl(both for pair in pairs for both in zip(pair.candidate.own, pair.candidate.base, strict=True))


FROM_SERVING = Check(
    name="kl",
    setting="rl.gate.max_kl",
    what="KL from the serving version, in nats per token of its answers",
    limit=lambda limits: limits.max_kl,
    measure=_from_serving,
)
FROM_BASE = Check(
    name="kl_base",
    setting="rl.gate.max_kl_base",
    what="KL from the base model, in nats per token of its answers",
    limit=lambda limits: limits.max_kl_base,
    measure=_from_base,
)
