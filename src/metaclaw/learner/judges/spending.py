"""What judging by a model takes, counted and held to a limit.

Owns the counting of each answer and the caps of a day; refuses to know what is asked. Invariant: no exchange is sent to
a model while the last 24 hours have reached a cap, and what a model did not report is estimated, never nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from metaclaw.chat.messages import text_of
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.config import JudgeSettings
from metaclaw.errors import UpstreamError
from metaclaw.journal.judge_book import JudgeBook, JudgeCall, Purpose
from metaclaw.learner.day_cap import DAY_S, DayCap
from metaclaw.learner.judges.judge import JudgeUnavailableError

_UNUSABLE = 422  # about this request, not an outage
_CHARS_PER_TOKEN = 4  # an estimate, for models that report nothing

Price = Callable[[TokenCounts], float | None]


class JudgeBudgetError(JudgeUnavailableError):
    """The day's tokens or money for judging are used up."""

    code = "judge_budget"


class AnsweringModel(Protocol):
    """The slice of an ``HttpModel`` that is used."""

    async def answer(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        model: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
    ) -> ChatAnswer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Where it is written down, what a token costs, and how much of both a day may take."""

    book: JudgeBook
    price: Price
    cap: DayCap

    async def require_left(self) -> None:
        """Raises ``JudgeBudgetError`` where a cap is reached."""
        if not self.cap.is_set:
            return
        reached = self.cap.reached(*await asyncio.to_thread(self.book.spent, last_s=DAY_S))
        if reached is not None:
            raise JudgeBudgetError(reached)

    async def record(self, purpose: Purpose, agent: str, usage: TokenCounts | None, estimate: TokenCounts) -> None:
        """Write down what one answer took."""
        counts = usage or estimate
        call = JudgeCall(
            purpose=purpose,
            agent=agent,
            tokens=counts.total,
            is_estimate=usage is None,
            cost_usd=self.price(counts),
            prompt_tokens=None if usage is None else usage.prompt,
            completion_tokens=None if usage is None else usage.completion,
        )
        await asyncio.to_thread(self.book.record_call, call)


class CountedModel:
    """A judging model whose answers are counted, where there is a ``spending``."""

    def __init__(self, model: AnsweringModel, settings: JudgeSettings, spending: Spending | None) -> None:
        self._model = model
        self._settings = settings
        self._spending = spending

    async def require_left(self) -> None:
        """Raises ``JudgeBudgetError`` where the day's cap is reached."""
        if self._spending is not None:
            await self._spending.require_left()

    async def complete(self, messages: Sequence[dict[str, Any]], *, purpose: Purpose, agent: str) -> str:
        """The text of one answer. Raises ``UpstreamError``."""
        settings = self._settings
        answer = await self._model.answer(
            messages,
            model=settings.model,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            timeout_s=settings.timeout_s,
        )
        text = text_of((answer.message or {}).get("content"))
        if self._spending is not None:
            prompt = sum(len(text_of(message.get("content"))) for message in messages)
            estimate = TokenCounts(prompt=prompt // _CHARS_PER_TOKEN, completion=len(text) // _CHARS_PER_TOKEN + 1)
            await self._spending.record(purpose, agent, token_counts(answer.usage), estimate)
        if answer.finish_reason == "length":  # its last line may be a quotation
            raise UpstreamError(
                f"the vote was cut off after {settings.max_tokens} tokens: raise rl.judge.max_tokens", status=_UNUSABLE
            )
        return text
