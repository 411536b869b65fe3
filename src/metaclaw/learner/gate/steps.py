"""The check of a step, before anything is saved.

Owns the limits that the trained tokens must keep; refuses to know how the step was made. Invariant: what cannot be
measured is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# KL grows with about the square of a small step. The next try aims at a part of the limit, since that is an estimate;
# far beyond the limit it is no estimate any more, so no try is shorter than a quarter.
_AIM = 0.7
_SHORTEST, _LONGEST = 0.25, 0.85
_NO_ENTROPY = 0.01  # nats; a policy that hardly draws lots may double that little


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a new version must not serve. ``shorter``: what to multiply a step by of which only the length is wrong."""

    reason: str
    shorter: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """How far one step may go, and the section whose settings say so."""

    section: str
    max_kl: float
    max_entropy_change: float | None = None  # either way, as a share


def refusal(numbers: Mapping[str, float], limits: Sequence[StepLimits]) -> Refusal | None:
    """Why the version that ``numbers`` measure must not serve; ``None`` when it may."""
    broken = sorted(key for key, value in numbers.items() if not math.isfinite(value))
    if broken:
        return Refusal(reason=f"not finite: {', '.join(broken)}")
    found = [broken for each in limits if (broken := _over(numbers, each)) is not None]
    return min(found, key=lambda one: one.shorter or 0.0, default=None)


def _over(numbers: Mapping[str, float], limits: StepLimits) -> Refusal | None:
    if numbers["kl"] > limits.max_kl:
        return Refusal(
            reason=f"KL from the serving version is {numbers['kl']:.4g} nats per token, over {limits.section}.max_kl"
            f" ({limits.max_kl:g})",
            shorter=_shorter(numbers["kl"] / limits.max_kl),
        )
    most = limits.max_entropy_change
    if most is None:
        return None
    before = numbers["entropy_before"]  # not of what was drawn: older versions' answers say what updates before did
    changed = abs(numbers["entropy_after"] - before) / max(before, _NO_ENTROPY)
    if changed <= most:
        return None
    return Refusal(
        reason=f"the entropy goes from {before:.4g} to {numbers['entropy_after']:.4g} nats per token, by more than"
        f" {limits.section}.max_entropy_change ({most:g})",
        shorter=min(_LONGEST, max(_SHORTEST, _AIM * most / changed)),
    )


def _shorter(times_over: float) -> float:
    return min(_LONGEST, max(_SHORTEST, math.sqrt(_AIM / times_over)))
