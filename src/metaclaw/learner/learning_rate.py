"""How far the optimiser may step, by the size of the model.

Owns the rule between the two sizes that were measured; refuses to know who trains. Invariant: what a person set is
never changed, and a size that nobody knows gets the rate of a large model, which learns slowly and breaks nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from metaclaw.config import UpdateSettings

# Measured (benchmarks/README.md, "Learning"): at 135M parameters three passes at 3e-4 learn faster than one at 6e-4,
# which learns faster than one at 3e-4; without clipping and dealing by advantage 1e-3 turns to gibberish. Documented
# for large models: about 4e-5 at 8B for one pass, so half of that here too, and 1e-5 as the smallest in use. Between
# them a straight line in both logarithms.
_SMALL, _SMALL_RATE = 135e6, 3e-4
_LARGE, _LARGE_RATE = 8e9, 2e-5
_LOWEST_RATE = 1e-5
_SLOPE = math.log(_LARGE_RATE / _SMALL_RATE) / math.log(_LARGE / _SMALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakRate:
    """The rate after the warm-up, and where it is from."""

    value: float
    why: str


def peak_rate(setting: float, num_parameters: int | None) -> PeakRate:
    """``setting`` where it is not 0, else what fits a model of so many parameters (``None``: nobody knows)."""
    if setting:
        return PeakRate(value=setting, why="rl.update.learning_rate")
    if not num_parameters:
        why = "nobody says how large the model is: set rl.update.learning_rate if it is not of some billions"
        return PeakRate(value=_LARGE_RATE, why=why)
    # Nothing smaller was measured, so a smaller model gets no higher rate.
    rate = max(_LOWEST_RATE, _SMALL_RATE * min(1.0, (num_parameters / _SMALL) ** _SLOPE))
    return PeakRate(value=rate, why=f"for {num_parameters:,} parameters; rl.update.learning_rate overrides it")


def warming(settings: UpdateSettings, peak: float, *, updates: int) -> tuple[float, ...]:
    """The rate of each step of an update that comes after so many ``updates``, rising to ``peak`` in a straight line.

    What warms up are the optimiser's estimates, so its steps are counted and not the updates.
    """
    before = updates * settings.num_steps
    return tuple(
        peak * min(1.0, (before + number) / max(1, settings.warmup_steps))
        for number in range(1, settings.num_steps + 1)
    )
