"""A model that judges, with each of its answers counted.

Owns the request for one answer and the estimate of what it took; refuses to know what is asked. Invariant: what a model
did not report is estimated, never nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from metaclaw.chat.messages import text_of
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.config import JudgeSettings
from metaclaw.errors import UpstreamError
from metaclaw.journal.paid_calls import Purpose
from metaclaw.learner.spending import Spending

_UNUSABLE = 422  # about this request, not an outage
_CHARS_PER_TOKEN = 4  # an estimate, for models that report nothing


class AnsweringModel(Protocol):
    """The slice of a ``ChatModel`` that is used."""

    async def answer(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        model: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
    ) -> ChatAnswer: ...


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
            await self._spending.record(purpose, agent, token_counts(answer.usage), estimate=estimate)
        if answer.finish_reason == "length":  # its last line may be a quotation
            raise UpstreamError(
                f"the vote was cut off after {settings.max_tokens} tokens: raise rl.judge.max_tokens", status=_UNUSABLE
            )
        return text
