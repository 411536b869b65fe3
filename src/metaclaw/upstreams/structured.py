"""Asking a model for JSON of a given form.

Owns the request; refuses to know what the JSON is about, and does not check it. Invariant: a refusal is raised as it
came, never an empty answer (PITFALLS B5-5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from metaclaw.chat.messages import JsonObject, text_of
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.errors import UpstreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonForm:
    """The form of an answer: a name and a JSON schema in the subset of OpenAI's strict mode."""

    name: str
    schema: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredAnswer:
    """The text of an answer, which should be JSON, and what it took."""

    text: str
    model: str
    usage: TokenCounts | None


class AskedModel(Protocol):
    """The slice of a ``ChatModel`` that is used."""

    @property
    def name(self) -> str: ...

    async def whole(self, body: JsonObject, *, timeout_s: float | None = None) -> ChatAnswer: ...


class StructuredModel:
    """One model."""

    def __init__(self, client: AskedModel, *, model: str, max_tokens: int, timeout_s: float) -> None:
        self.model = model
        self._client = client
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s

    async def ask(self, messages: Sequence[JsonObject], form: JsonForm) -> StructuredAnswer:
        """The model's answer. Raises ``UpstreamError``; an answer that was cut off or has no text is one."""
        answer = await self._client.whole(self._body(messages, form), timeout_s=self._timeout_s)
        text = text_of((answer.message or {}).get("content"))
        if answer.finish_reason == "length":
            raise UpstreamError(
                f"{self._client.name} did not finish its answer within {self._max_tokens} tokens", status=502
            )
        if not text.strip():
            raise UpstreamError(f"{self._client.name} answered without a text ({answer.finish_reason})", status=502)
        return StructuredAnswer(text=text, model=answer.model or self.model, usage=token_counts(answer.usage))

    def _body(self, messages: Sequence[JsonObject], form: JsonForm) -> JsonObject:
        schema: JsonObject = {"name": form.name, "strict": True, "schema": form.schema}
        return {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": self._max_tokens,
            "response_format": {"type": "json_schema", "json_schema": schema},
        }
