"""What asking models takes, counted and held to what a day may take.

Owns the counting of each answer and the caps of 24 hours; refuses to know what is asked, and what is done when a cap is
reached. Invariant: nothing that has a cap is asked while the last 24 hours have reached it, restarts included, nor
while what was asked before cannot be written down, as a restart would forget it; and what is unknown is never counted
as nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from metaclaw.chat.usage import TokenCounts
from metaclaw.errors import MetaClawError
from metaclaw.journal.paid_calls import CallBook, PaidCall, Purpose
from metaclaw.journal.teacher_words import Heard

DAY_S = 86_400.0

Price = Callable[[TokenCounts], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCap:
    """How much ``doing`` may take in 24 hours; 0 is no limit.

    ``section`` is whose settings the limits are, ``error`` what says in words that one is reached."""

    doing: Purpose
    section: str
    max_tokens: int
    max_usd: float
    error: Callable[[str], MetaClawError]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """On one ``model``: where it is written down, what a token costs, and how much a day may take."""

    book: CallBook
    model: str
    price: Price
    cap: DayCap | None = None

    async def require_left(self) -> None:
        """Raises the error of the cap where that is reached, or cannot be known to hold."""
        cap = self.cap
        if cap is None or not cap.is_set:
            return
        trouble, (tokens, usd) = await asyncio.to_thread(self._so_far, cap.doing)
        if trouble is not None:
            raise cap.error(f"what {cap.doing} took cannot be written down ({trouble})")
        reached = cap.reached(tokens, usd)
        if reached is not None:
            raise cap.error(reached)

    def _so_far(self, doing: Purpose) -> tuple[str | None, tuple[int, float]]:
        return self.book.trouble, self.book.spent(doing, last_s=DAY_S)

    async def record(
        self,
        purpose: Purpose,
        agent: str,
        usage: TokenCounts | None,
        *,
        estimate: TokenCounts | None = None,
        heard: Heard | None = None,
    ) -> float | None:
        """Write down what one answer took, and what a teacher said in it; return its price, ``None`` where unknown.

        ``usage`` is what the model reported; where it did not, an ``estimate`` is counted.
        """
        counts = usage or estimate
        call = PaidCall(
            purpose=purpose,
            agent=agent,
            model=self.model,
            tokens=None if counts is None else counts.total,
            is_estimate=usage is None and estimate is not None,
            prompt_tokens=None if usage is None else usage.prompt,
            completion_tokens=None if usage is None else usage.completion,
            cost_usd=None if counts is None else self.price(counts),
        )
        await asyncio.to_thread(self.book.record, call, heard)
        return call.cost_usd
