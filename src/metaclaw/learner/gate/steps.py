"""The check of a step, before anything is saved.

Owns the limits that the trained tokens must keep; refuses to know how the step was made. Invariant: what cannot be
measured is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# KL grows with about the square of a small step. The next try aims at a part of the limit, since that is an estimate;
# far beyond the limit it is no estimate any more, so no try is shorter than a quarter.
_AIM = 0.7
_SHORTEST, _LONGEST = 0.25, 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a new version must not serve. ``shorter``: what to multiply a step by of which only the length is wrong."""

    reason: str
    shorter: float | None = None


def refusal(numbers: Mapping[str, float], *, max_kl: float) -> Refusal | None:
    """Why the version that ``numbers`` measure must not serve; ``None`` when it may."""
    broken = sorted(key for key, value in numbers.items() if not math.isfinite(value))
    if broken:
        return Refusal(reason=f"not finite: {', '.join(broken)}")
    if numbers["kl"] > max_kl:
        reason = (
            f"KL from the serving version is {numbers['kl']:.4g} nats per token, over rl.update.max_kl ({max_kl:g})"
        )
        return Refusal(reason=reason, shorter=_shorter(numbers["kl"] / max_kl))
    return None


def _shorter(times_over: float) -> float:
    return min(_LONGEST, max(_SHORTEST, math.sqrt(_AIM / times_over)))
