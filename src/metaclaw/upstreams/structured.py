"""Asking a model for JSON of a given form.

Owns the request and what is changed of it when a model refuses one of its parameters; refuses to know what the JSON is
about, and does not check it. Invariant: a refusal that no change answers is raised as it came, never an empty answer
(PITFALLS B5-5), and what a model refused once it is not asked again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from metaclaw.chat.fitting import strictly_openai
from metaclaw.chat.messages import JsonObject, object_or_none, text_of
from metaclaw.chat.openai_chat import ChatAnswer, parse_answer
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.errors import UpstreamError
from metaclaw.upstreams.model_client import Reply

_OF_A_PARAMETER = (400, 404, 422)


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


class ChatModel(Protocol):
    """The slice of an ``HttpModel`` that is used."""

    @property
    def name(self) -> str: ...

    async def chat(self, body: JsonObject | bytes) -> Reply: ...


class StructuredModel:
    """One model. It learns which parameters it has to do without."""

    def __init__(self, client: ChatModel, *, model: str, max_tokens: int, timeout_s: float) -> None:
        self.model = model
        self._client = client
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s
        self._changes: list[_Change] = []

    async def ask(self, messages: Sequence[JsonObject], form: JsonForm) -> StructuredAnswer:
        """The model's answer. Raises ``UpstreamError``; an answer that was cut off or has no text is one."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._answer(self._body(messages, form))
        except TimeoutError as error:
            raise UpstreamError(f"{self._client.name} took longer than {self._timeout_s:g} s", status=504) from error
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

    async def _answer(self, body: JsonObject) -> ChatAnswer:
        while True:
            changed = body
            for change in self._changes:
                changed = change(changed)
            try:
                return await self._once(changed)
            except UpstreamError as error:
                change = _change_for(error, changed) if error.status in _OF_A_PARAMETER else None
                if change is None or change in self._changes:
                    raise
                self._changes.append(change)

    async def _once(self, body: JsonObject) -> ChatAnswer:
        reply = await self._client.chat(body)
        try:
            answer = object_or_none(json.loads(await reply.read()))
        except ValueError as error:
            raise UpstreamError(f"{self._client.name} answered with something that is not JSON", status=502) from error
        finally:
            reply.close()
        if answer is None:
            raise UpstreamError(f"{self._client.name} answered with something that is not an object", status=502)
        return parse_answer(answer)


_Change = Callable[[JsonObject], JsonObject]


def _change_for(error: UpstreamError, body: JsonObject) -> _Change | None:
    """What to change of ``body`` after a refusal; ``None`` when it is not about a parameter that can be changed."""
    named = f"{error.detail.get('param')} {error}".lower()
    if "max_tokens" in named and "max_tokens" in body:
        return strictly_openai
    if "max_completion_tokens" in named and "max_completion_tokens" in body:
        return _with_max_tokens
    # Many servers do not say which parameter it was; then it is most likely the one that the fewest know.
    kind = (object_or_none(body.get("response_format")) or {}).get("type")
    return {"json_schema": _as_json_object, "json_object": _without_form}.get(str(kind))


def _with_max_tokens(body: JsonObject) -> JsonObject:
    changed = dict(body)
    changed["max_tokens"] = changed.pop("max_completion_tokens")
    return changed


def _as_json_object(body: JsonObject) -> JsonObject:
    return {**body, "response_format": {"type": "json_object"}}


def _without_form(body: JsonObject) -> JsonObject:
    return {key: value for key, value in body.items() if key != "response_format"}
