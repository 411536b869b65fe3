"""Several rankings of the same things made one by their scores.

Owns the formula; refuses to know what scores mean. Invariant: each ranking's best counts in full and what it scores 0
counts nothing, so no ranking needs a scale that is known; the order in which things are given does not matter.

How much better one thing is than the next is lost where only places count. Where two rankings are of different worth
that is what tells them apart: one that knows little scores its first fifty nearly alike, and shifts nothing. Bruch, Gai
and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval", arXiv 2210.11934, section 4.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Scored = tuple[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Scores by key, none below 0, and how much they count beside others."""

    scores: Sequence[Scored]
    weight: float


def blend(rankings: Sequence[Ranking]) -> Mapping[str, float]:
    """What some of ``rankings`` have, with a score from 0 to 1, which is best in all of them."""
    total = math.fsum(ranking.weight for ranking in rankings)
    gains: dict[str, list[float]] = defaultdict(list)
    for ranking in rankings:
        best = max((score for _, score in ranking.scores), default=0.0)
        for key, score in ranking.scores:
            gains[key].append(ranking.weight * score / best if best > 0 else 0.0)
    return {key: math.fsum(gain) / total for key, gain in gains.items()}
