"""Whether answers are the prompt again.

Owns the rise of the share of runs of six tokens that are in the prompt; refuses to know what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.checks.ngrams import copied_share
from metaclaw.learner.gate.pairs import AnsweredPair, Scored, mean

_LENGTH = 6


def _rise(pairs: Sequence[AnsweredPair]) -> float:
    def share(answer: Scored, pair: AnsweredPair) -> float:
        return copied_share(answer.drawn.tokens, pair.prompt, _LENGTH)

    return mean([share(pair.candidate, pair) - share(pair.served, pair) for pair in pairs])


COPYING = Check(
    name="copying_rise",
    setting="rl.gate.max_copying_rise",
    what="the share of its answers that is copied from the prompt rose",
    limit=lambda limits: limits.max_copying_rise,
    measure=_rise,
)
