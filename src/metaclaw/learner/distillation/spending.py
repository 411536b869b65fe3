"""What a teacher elsewhere takes, counted and held to a limit.

Owns the counting of each answer and the caps of a day; refuses to know what is asked. Invariant: nothing is sent while
the last 24 hours have reached a cap, and what a teacher did not report is estimated, never nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from metaclaw.chat.usage import TokenCounts
from metaclaw.journal.teacher_book import TeacherBook, TeacherCall
from metaclaw.learner.day_cap import DAY_S, DayCap
from metaclaw.learner.distillation.endpoint import Scored, TeacherError

Price = Callable[[TokenCounts], float | None]


class TeachingBudgetError(TeacherError):
    """The day's tokens or money for teachers are used up."""

    code = "teacher_budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Where it is written down, what a token costs, and how much of both a day may take."""

    book: TeacherBook
    price: Price
    cap: DayCap

    async def require_left(self) -> None:
        """Raises ``TeachingBudgetError`` where a cap is reached."""
        if not self.cap.is_set:
            return
        reached = self.cap.reached(*await asyncio.to_thread(self.book.spent, last_s=DAY_S))
        if reached is not None:
            raise TeachingBudgetError(f"{reached}: what is to be taught waits until there is some left")

    async def record(self, agent: str, teacher: str, scored: Scored) -> float | None:
        """Write down what one answer took; return its cost, ``None`` where nobody knows."""
        took, cost_usd = scored.took, self.price(scored.took)
        call = TeacherCall(
            agent=agent,
            teacher=teacher,
            tokens=took.total,
            is_estimate=scored.is_estimate,
            cost_usd=cost_usd,
            prompt_tokens=None if scored.is_estimate else took.prompt,
            completion_tokens=None if scored.is_estimate else took.completion,
        )
        await asyncio.to_thread(self.book.record_call, call)
        return cost_usd
