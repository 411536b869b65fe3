"""Does a skill help? A test that may be looked at after every observation.

Owns the evidence that differences give for and against a mean; refuses to know where they come from. Invariant:
whatever the number of looks, and whenever one stops, a mean that is not above the bound passes for one that is at most
as often as ``error`` says.

A gambler bets on each difference that it is above the bound; if it is not, no strategy is expected to win, so a capital
of ``1 / error`` is reached at most as often as ``error`` (Ville 1939). That needs no normal distribution and no fixed
number of observations, and equal scores (a difference of 0) neither win nor lose. The stakes are a fixed mixture, so
the capital does not depend on the order: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", J. R. Stat. Soc. B 86 (2024), arXiv 2010.09686.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STAKES = tuple(step / 20 for step in range(1, 20))  # shares of the capital that is risked at each difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a skill changed once. ``value`` is in [-bound, bound]; its expectation is the difference in reward that the
    skill makes, on the scale where from always wrong to always right is 1. ``bound`` was known before the value was.
    """

    value: float
    bound: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.bound > 0 and abs(self.value) <= self.bound * (1 + 1e-9)):
            raise ValueError(f"{self.value!r} is not within {self.bound!r}")


def capital_above(observations: Iterable[Observation], mean: float = 0.0) -> float:
    """The capital of whoever bet that the mean is above ``mean``; it began with 1."""
    return _capital([(seen.value - mean) / (seen.bound + mean) for seen in observations])


def capital_below(observations: Iterable[Observation], mean: float = 0.0) -> float:
    """The capital of whoever bet that the mean is below ``mean``."""
    return _capital([(mean - seen.value) / (seen.bound - mean) for seen in observations])


def _capital(gains: list[float]) -> float:
    # A gain is at least -1, so that at a stake below 1 nobody is ruined.
    logs = [sum(math.log1p(stake * gain) for gain in gains) for stake in _STAKES]
    top = max(logs)
    if top > 700:
        return math.inf
    return math.exp(top) * sum(math.exp(log - top) for log in logs) / len(_STAKES)
