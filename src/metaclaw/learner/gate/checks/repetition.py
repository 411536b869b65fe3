"""Whether answers go round in circles.

Owns the rise of the share of repeated runs of four tokens; refuses to know what is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.checks.ngrams import repeated_share
from metaclaw.learner.gate.pairs import AnsweredPair, Scored, mean

_LENGTH = 4


def _share(answer: Scored) -> float:
    return repeated_share(answer.drawn.tokens, _LENGTH)


def _rise(pairs: Sequence[AnsweredPair]) -> float:
    return mean([_share(pair.candidate) - _share(pair.served) for pair in pairs])


REPETITION = Check(
    name="repetition_rise",
    setting="rl.gate.max_repetition_rise",
    what="the share of repeated runs of four tokens rose",
    limit=lambda limits: limits.max_repetition_rise,
    measure=_rise,
)
