"""Whether there is an answer at all.

Owns the rise of the share of answers without a text; refuses to know why they are empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.pairs import AnsweredPair, Scored, mean


def _is_empty(answer: Scored) -> bool:
    return not any(character.isalnum() for character in answer.drawn.text)


def _rise(pairs: Sequence[AnsweredPair]) -> float:
    return mean([float(_is_empty(pair.candidate)) - float(_is_empty(pair.served)) for pair in pairs])


EMPTINESS = Check(
    name="empty_rise",
    setting="rl.gate.max_empty_rise",
    what="the share of empty answers rose",
    limit=lambda limits: limits.max_empty_rise,
    measure=_rise,
)
