"""What a check is.

Owns the form; refuses to know any check. Invariant: a check is a number of the answers and a setting that it must not
be over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metaclaw.config import GateSettings
from metaclaw.learner.gate.pairs import AnsweredPair


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``measure`` answers "not a number" where there is nothing to measure. ``what`` is the number in words."""

    name: str
    setting: str
    what: str
    limit: Callable[[GateSettings], float]
    measure: Callable[[Sequence[AnsweredPair]], float]
