"""Whether answers left the language that the human wrote in.

Owns the rise of the share of answers in another language; refuses to know which is right: the one before was asked the
same. Invariant: a text whose language cannot be told never counts as a switch.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.checks.languages import language_of
from metaclaw.learner.gate.pairs import AnsweredPair, Scored, mean


def _rise(pairs: Sequence[AnsweredPair]) -> float:
    def switched(answer: Scored, asked: str) -> float:
        ours, theirs = language_of(answer.drawn.text), language_of(asked)
        return float(ours is not None and theirs is not None and ours != theirs)

    return mean([switched(pair.candidate, pair.asked) - switched(pair.served, pair.asked) for pair in pairs])


LANGUAGE = Check(
    name="language_rise",
    setting="rl.gate.max_language_rise",
    what="the share of answers in another language than the prompt's rose",
    limit=lambda limits: limits.max_language_rise,
    measure=_rise,
)
