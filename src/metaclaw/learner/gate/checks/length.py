"""Whether answers became much longer or much shorter.

Owns the ratio of mean lengths, the larger to the smaller; refuses to know whether length was wanted. Invariant: it is
at least 1, and one token more or less never matters.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.pairs import AnsweredPair, mean


def _ratio(pairs: Sequence[AnsweredPair]) -> float:
    before = 1 + mean([len(pair.served.drawn.tokens) for pair in pairs])
    after = 1 + mean([len(pair.candidate.drawn.tokens) for pair in pairs])
    return max(before / after, after / before)


LENGTH = Check(
    name="length_ratio",
    setting="rl.gate.max_length_ratio",
    what="its answers and those of the serving version differ in length by a factor",
    limit=lambda limits: limits.max_length_ratio,
    measure=_ratio,
)
