"""How much of a model's answers a day may take.

Owns the comparison and its words; refuses to know who counts, and what is done about it. Invariant: 0 is no limit, and
the words name the setting to raise.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCap:
    """Of the last 24 hours. ``doing`` is what the model does, ``section`` whose settings the limits are."""

    doing: str
    section: str
    max_tokens: int
    max_usd: float

    @property
    def is_set(self) -> bool:
        return bool(self.max_tokens or self.max_usd)

    def reached(self, tokens: int, usd: float) -> str | None:
        """Which limit so much has reached, in words; ``None`` while there is something left."""
        if self.max_tokens and tokens >= self.max_tokens:
            return f"{self.doing} took {tokens:,} tokens in 24 hours, of {self.section}.max_tokens_per_day"
        if self.max_usd and usd >= self.max_usd:
            return f"{self.doing} took {usd:.2f} USD in 24 hours, of {self.section}.max_usd_per_day"
        return None
