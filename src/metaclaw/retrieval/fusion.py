"""Several rankings of the same things made one: reciprocal rank fusion.

Owns the formula and its scale; refuses to know how a ranking came about. Invariant: scores of different kinds are never
added, only places; equal scores share a place, so the order in which things are given does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_DAMPING = 60.0  # of the paper (Cormack, Clarke and Buettcher, 2009)
Scored = tuple[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """One thing with its score: 1 is first in every ranking. ``parts`` has the score that each ranking gave it."""

    key: str
    score: float
    parts: Mapping[str, float]


def fuse(
    rankings: Mapping[str, Sequence[Scored]],
    *,
    floors: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
    min_score: float = 0.0,
) -> list[Fused]:
    """What some of ``rankings`` (by name, each of a key at most once) has, best first, equal ones by key.

    ``floors`` are the least scores that count, by ranking: a ranking always has a first place, and only its own
    scores tell whether the first is any good. ``min_score`` is the least that is returned of the fused score.
    """
    weights = weights or {}
    total = math.fsum(weights.get(name, 1.0) for name in rankings) / (_DAMPING + 1)
    parts: dict[str, dict[str, float]] = {}
    gains: dict[str, list[float]] = {}
    for name, ranking in rankings.items():
        floor = (floors or {}).get(name, -math.inf)
        counted = [(key, score) for key, score in ranking if score >= floor]
        places = _places(counted)
        for key, score in counted:
            parts.setdefault(key, {})[name] = score
            gains.setdefault(key, []).append(weights.get(name, 1.0) / (_DAMPING + places[key]))
    fused = [Fused(key=key, score=math.fsum(gains[key]) / total, parts=parts[key]) for key in parts]
    return sorted((one for one in fused if one.score >= min_score), key=lambda one: (-one.score, one.key))


def _places(ranking: Sequence[Scored]) -> dict[str, int]:
    places: dict[str, int] = {}
    place, last = 0, math.inf
    for number, (key, score) in enumerate(sorted(ranking, key=lambda scored: -scored[1]), 1):
        if score < last:
            place, last = number, score
        places[key] = place or 1
    return places
