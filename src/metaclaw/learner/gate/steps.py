"""The check of a step, before anything is saved.

Owns the limits that the trained tokens must keep; refuses to know how the step was made. Invariant: what cannot be
measured is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a new version must not serve. ``is_too_far``: nothing but the length of the step is wrong with it."""

    reason: str
    is_too_far: bool


def refusal(numbers: Mapping[str, float], *, max_kl: float) -> Refusal | None:
    """Why the version that ``numbers`` measure must not serve; ``None`` when it may."""
    broken = sorted(key for key, value in numbers.items() if not math.isfinite(value))
    if broken:
        return Refusal(reason=f"not finite: {', '.join(broken)}", is_too_far=False)
    if numbers["kl"] > max_kl:
        reason = (
            f"KL from the serving version is {numbers['kl']:.4g} nats per token, over rl.update.max_kl ({max_kl:g})"
        )
        return Refusal(reason=reason, is_too_far=True)
    return None
