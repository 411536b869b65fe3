"""A model asked for one whole answer in chat, whatever dialect it speaks.

Owns the translation, and what is changed of a request when a model refuses one of its parameters; refuses to know what
is asked and why. Invariant: a refusal that no change answers is raised as it came, and what a model refused once it is
not asked again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

from metaclaw.chat.dialects import CHAT, DIALECTS, FROM_CHAT
from metaclaw.chat.fitting import strictly_openai
from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.chat.openai_chat import ChatAnswer, parse_answer
from metaclaw.chat.think_filter import without_think_block
from metaclaw.errors import ConfigError, InvalidRequestError, UpstreamError
from metaclaw.upstreams.answered import answered_object
from metaclaw.upstreams.model_client import ModelClient, Reply

_OF_A_PARAMETER = (400, 404, 422)
_MAX_ANSWER_BYTES = 16 << 20

_Change = Callable[[JsonObject], JsonObject]


class ChatModel:
    """One model. It learns which parameters it has to do without. Raises ``ConfigError`` for one without a chat."""

    def __init__(self, client: ModelClient) -> None:
        dialect = next((DIALECTS[spoken] for spoken in client.dialects if spoken in FROM_CHAT), None)
        if dialect is None:
            raise ConfigError(f"{client.name} cannot be asked in chat: it speaks {', '.join(client.dialects)}")
        self.name = client.name
        self._client = client
        self._dialect = dialect
        self._changes: tuple[_Change, ...] = (strictly_openai,) if dialect is CHAT and client.is_strict else ()

    async def answer(
        self,
        messages: Sequence[JsonObject],
        *,
        model: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
    ) -> ChatAnswer:
        """One answer with what it took. Raises ``UpstreamError``; an answer without a message is one."""
        settings = {"temperature": temperature, "max_tokens": max_tokens}
        body = {"model": model, "messages": list(messages), **{k: v for k, v in settings.items() if v is not None}}
        answer = await self.whole(body, timeout_s=timeout_s)
        if answer.message is None:
            raise UpstreamError(f"{self.name} answered without a message", status=502)
        return answer

    async def whole(self, body: JsonObject, *, timeout_s: float | None = None) -> ChatAnswer:
        """The answer to a chat request, however often it has to be changed. Raises ``UpstreamError``."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answered(body)
        except TimeoutError as error:
            raise UpstreamError(f"{self.name} took longer than {timeout_s:g} s", status=504) from error

    async def _answered(self, body: JsonObject) -> ChatAnswer:
        changes = self._changes
        while True:
            changed = body
            for change in changes:
                changed = change(changed)
            try:
                answer = await self._once(changed)
            except UpstreamError as error:
                change = _change_for(error, changed) if error.status in _OF_A_PARAMETER else None
                if change is None or change in changes:
                    raise
                changes = (*changes, change)
            else:
                self._changes = changes  # only what helped
                return answer

    async def _once(self, body: JsonObject) -> ChatAnswer:
        try:
            told = self._dialect.from_chat(body)
        except InvalidRequestError as error:
            detail = {} if error.param is None else {"param": error.param}
            raise UpstreamError(f"{self.name} cannot be asked that: {error}", status=400, detail=detail) from error
        reply = await self._client.send(self._dialect.name, json.dumps(told, separators=(",", ":")).encode())
        try:
            raw = await self._read(reply)
        finally:
            reply.close()
        answer = answered_object(self.name, raw)
        return parse_answer(without_think_block(self._dialect.answer_to_chat(answer)))

    async def _read(self, reply: Reply) -> bytes:
        whole: list[bytes] = []
        size = 0
        async for chunk in reply.chunks():
            whole.append(chunk)
            size += len(chunk)
            if size > _MAX_ANSWER_BYTES:
                # About what was asked, not an outage: it would be as long the next time.
                raise UpstreamError(f"{self.name} answered with more than {_MAX_ANSWER_BYTES >> 20} MB", status=422)
        return b"".join(whole)


def _change_for(error: UpstreamError, body: JsonObject) -> _Change | None:
    """What to change of ``body`` after a refusal; ``None`` when it is not about a parameter that can be changed."""
    named = f"{error.detail.get('param')} {error}".lower()
    if "max_tokens" in named and "max_tokens" in body:
        return strictly_openai
    if "max_completion_tokens" in named and "max_completion_tokens" in body:
        return _with_max_tokens
    if "temperature" in named and "temperature" in body:
        return _without_temperature
    # Many servers do not say which parameter it was; then it is most likely the one that the fewest know.
    kind = (object_or_none(body.get("response_format")) or {}).get("type")
    return {"json_schema": _as_json_object, "json_object": _without_form}.get(str(kind))


def _with_max_tokens(body: JsonObject) -> JsonObject:
    changed = dict(body)
    if "max_completion_tokens" in changed:
        changed["max_tokens"] = changed.pop("max_completion_tokens")
    return changed


def _without_temperature(body: JsonObject) -> JsonObject:
    return {key: value for key, value in body.items() if key != "temperature"}


def _as_json_object(body: JsonObject) -> JsonObject:
    return {**body, "response_format": {"type": "json_object"}} if "response_format" in body else body


def _without_form(body: JsonObject) -> JsonObject:
    return {key: value for key, value in body.items() if key != "response_format"}
