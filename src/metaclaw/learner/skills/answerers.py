"""Who answers a replay: the model that serves the agent.

Owns the way to it; refuses to know why it is asked. Invariant: both halves of a pair go the same way, and an answer
that calls a tool is said to, because nobody would run it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Protocol

from metaclaw.chat.dialects import CHAT, DIALECTS, FROM_CHAT
from metaclaw.chat.fitting import strictly_openai
from metaclaw.chat.messages import JsonObject, object_or_none, text_of
from metaclaw.chat.openai_chat import parse_answer
from metaclaw.chat.think_filter import without_think_block
from metaclaw.config import RlSettings
from metaclaw.errors import UpstreamError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.model_client import ModelClient
from metaclaw.upstreams.pool import Outbound, UpstreamPool

_OUR_MODEL = "metaclaw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A replay's answer."""

    text: str
    finish_reason: str | None
    calls_tools: bool


class Answerer(Protocol):
    """Answers as the agent's model does. Raises ``UpstreamError``."""

    async def answer(self, agent: str, request: JsonObject) -> Answered: ...


class PoolAnswerer:
    """The configured models."""

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool

    async def answer(self, agent: str, request: JsonObject) -> Answered:
        del agent
        sent = await self._pool.send(lambda client: self._outbound(client, request))
        try:
            raw = await sent.reply.read()
        finally:
            sent.reply.close()
        return _answered(DIALECTS[sent.dialect].answer_to_chat(_object(raw, sent.client.name)), sent.client.name)

    def _outbound(self, client: ModelClient, request: JsonObject) -> Outbound | None:
        target = next((DIALECTS[spoken] for spoken in client.dialects if spoken in FROM_CHAT), None)
        if target is None:
            return None
        asked = str(request.get("model") or "")
        is_ours = asked in ("", _OUR_MODEL) or asked.startswith(f"{_OUR_MODEL}/") or self._pool.is_fallback(client)
        name = client.model_id or asked if is_ours else asked
        body = target.from_chat({**request, "model": name})
        if target is CHAT and client.is_strict:
            body = strictly_openai(body)
        return Outbound(dialect=target.name, body=json.dumps(body, separators=(",", ":")).encode())


class PolicyAnswerer:
    """The version of the agent's policy that serves now."""

    def __init__(self, upstream: HttpModel, journal: LearningJournal, settings: RlSettings) -> None:
        self._upstream = upstream
        self._journal = journal
        self._settings = settings

    async def answer(self, agent: str, request: JsonObject) -> Answered:
        body = {
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
            **request,
            "model": await self._model(agent),
        }
        reply = await self._upstream.chat(body)
        try:
            raw = await reply.read()
        finally:
            reply.close()
        return _answered(_object(raw, self._upstream.name), self._upstream.name)

    async def _model(self, agent: str) -> str:
        version = await asyncio.to_thread(self._journal.serving, agent)
        if version != BASE_VERSION:
            return (await asyncio.to_thread(self._journal.version, agent, version)).sampler_path
        names = [model.get("id") for model in await self._upstream.models()]
        if not names or not isinstance(names[0], str):
            raise UpstreamError(f"{self._upstream.name} lists no model", status=502)
        return names[0]


def _object(raw: bytes, name: str) -> JsonObject:
    try:
        value = object_or_none(json.loads(raw))
    except ValueError as error:
        raise UpstreamError(f"{name} answered with something that is not JSON", status=502) from error
    if value is None:
        raise UpstreamError(f"{name} answered with something that is not an object", status=502)
    return value


def _answered(chat: JsonObject, name: str) -> Answered:
    answer = parse_answer(without_think_block(chat))
    if answer.message is None:
        raise UpstreamError(f"{name} answered without a message", status=502)
    return Answered(
        text=text_of(answer.message.get("content")),
        finish_reason=answer.finish_reason,
        calls_tools=bool(answer.message.get("tool_calls")),
    )
