"""Two answers to one recorded prompt, of the version that serves and of the one that would.

Owns the plain data that checks look at; refuses to know where it came from. Invariant: both answers were drawn from the
same tokens at the same temperature with the same seed, and every log-probability is at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metaclaw.learner.gate.answers import Drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An answer with its log-probabilities under the version that drew it, the one that serves, and the base model."""

    drawn: Drawn
    own: tuple[float, ...]
    serving: tuple[float, ...]
    base: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredPair:
    """``asked`` is what the human wrote, in ``prompt``."""

    prompt: tuple[int, ...]
    asked: str
    served: Scored
    candidate: Scored


def mean(values: Sequence[float]) -> float:
    """The mean; not a number when there is nothing to take it of."""
    return sum(values) / len(values) if values else float("nan")
