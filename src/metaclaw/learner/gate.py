"""The check before a version is served.

Owns the limits that a new version must keep; refuses to know how it was made. Invariant: what cannot be measured is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def refusal(numbers: Mapping[str, float], *, max_kl: float) -> str | None:
    """Why the version that ``numbers`` measure must not serve; ``None`` when it may."""
    broken = sorted(key for key, value in numbers.items() if not math.isfinite(value))
    if broken:
        return f"not finite: {', '.join(broken)}"
    if numbers["kl"] > max_kl:
        return f"KL from the serving version is {numbers['kl']:.4g} nats per token, over rl.update.max_kl ({max_kl:g})"
    return None
