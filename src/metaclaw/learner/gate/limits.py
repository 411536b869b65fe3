"""Whether answers keep within every limit.

Owns the list of checks; refuses to know any of them. Invariant: every check is reported as a number, and one that
cannot be measured is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metaclaw.config import GateSettings
from metaclaw.learner.gate.checks.check import Check
from metaclaw.learner.gate.checks.copying import COPYING
from metaclaw.learner.gate.checks.divergence import FROM_BASE, FROM_SERVING
from metaclaw.learner.gate.checks.emptiness import EMPTINESS
from metaclaw.learner.gate.checks.entropy import ENTROPY
from metaclaw.learner.gate.checks.language import LANGUAGE
from metaclaw.learner.gate.checks.length import LENGTH
from metaclaw.learner.gate.checks.plausibility import PLAUSIBILITY
from metaclaw.learner.gate.checks.refusals import REFUSALS
from metaclaw.learner.gate.checks.repetition import REPETITION
from metaclaw.learner.gate.pairs import AnsweredPair

# A new check is a file, a setting and a line here.
CHECKS: tuple[Check, ...] = (
    EMPTINESS, FROM_SERVING, FROM_BASE, PLAUSIBILITY, ENTROPY, LENGTH, REPETITION, COPYING, REFUSALS, LANGUAGE,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """``broken`` names each limit that was not kept, with its number."""

    numbers: dict[str, float]
    broken: tuple[str, ...]


def measure_limits(pairs: Sequence[AnsweredPair], limits: GateSettings) -> Measured:
    """Hold ``pairs`` against all limits."""
    numbers = {check.name: check.measure(pairs) for check in CHECKS}
    broken = [said for check in CHECKS if (said := _broken(check, numbers[check.name], limits))]
    return Measured(numbers=numbers, broken=tuple(broken))


def _broken(check: Check, value: float, limits: GateSettings) -> str | None:
    limit = check.limit(limits)
    if not math.isfinite(value):
        return f"it cannot be measured whether {check.what} ({check.setting})"
    return f"{check.what}: {value:.3g}, over {check.setting} ({limit:g})" if value > limit else None
