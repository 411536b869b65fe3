"""Who answers a replay: the model that serves the agent.

Owns the way to it; refuses to know why it is asked. Invariant: both halves of a pair go the same way, and what an
answer calls is told and never run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from metaclaw.chat.anthropic.older_models import fitted_for_claude
from metaclaw.chat.dialects import ANTHROPIC, CHAT, DIALECTS, FROM_CHAT, RESPONSES
from metaclaw.chat.fitting import fitted_for_others, strictly_openai
from metaclaw.chat.functions_by_responses import by_responses, chat_refuses
from metaclaw.chat.messages import JsonObject, answer_identity, text_of
from metaclaw.chat.openai_chat import parse_answer
from metaclaw.chat.think_filter import without_think_block
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.config import RlSettings
from metaclaw.errors import UpstreamError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION
from metaclaw.upstreams.answered import answered_object
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.model_client import ModelClient
from metaclaw.upstreams.pool import Outbound, UpstreamPool

_OUR_MODEL = "metaclaw"


# What tokens cost: of an upstream and a model; ``None`` when nobody knows.
Prices = Callable[[str, str, TokenCounts], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A replay's answer in chat form, and what it took; ``None`` is unknown, which is not 0."""

    message: JsonObject
    finish_reason: str | None = None
    tokens: TokenCounts | None = None
    cost_usd: float | None = None

    @property
    def text(self) -> str:
        return text_of(self.message.get("content"))

    @property
    def calls(self) -> list[str]:
        """The tools that it calls, with their arguments as the model wrote them."""
        listed: list[JsonObject] = self.message.get("tool_calls") or []
        called: list[JsonObject] = [call.get("function") or call for call in listed]
        return [f"{one.get('name')}({one.get('arguments') or ''})" for one in called]

    def says_what(self, other: Answered) -> bool:
        """Whether it says and calls the same as ``other``."""
        return answer_identity(self.message) == answer_identity(other.message)


class Answerer(Protocol):
    """Answers as the agent's model does. Raises ``UpstreamError``."""

    async def answer(self, agent: str, request: JsonObject) -> Answered: ...


class PoolAnswerer:
    """The configured models."""

    def __init__(self, pool: UpstreamPool, prices: Prices) -> None:
        self._pool = pool
        self._prices = prices

    async def answer(self, agent: str, request: JsonObject) -> Answered:
        del agent
        sent = await self._pool.send(lambda client: self._outbound(client, request))
        try:
            raw = await sent.reply.read()
        finally:
            sent.reply.close()
        name = sent.client.name
        return _answered(DIALECTS[sent.dialect].answer_to_chat(answered_object(name, raw)), name, self._prices)

    def _outbound(self, client: ModelClient, request: JsonObject) -> Outbound | None:
        target = next((DIALECTS[spoken] for spoken in client.dialects if spoken in FROM_CHAT), None)
        if target is None:
            return None
        named = str(request.get("model") or "")
        is_ours = named in ("", _OUR_MODEL) or named.startswith(f"{_OUR_MODEL}/") or self._pool.is_fallback(client)
        name = client.model_id or named if is_ours else named
        asked = {**request, "model": name}
        if client.is_strict and RESPONSES.name in client.dialects and chat_refuses(asked, name):
            by_other = by_responses(asked)
            if by_other is not None:
                return Outbound(dialect=RESPONSES.name, body=json.dumps(by_other, separators=(",", ":")).encode())
        body = target.from_chat(asked)
        if target is CHAT:
            body = strictly_openai(body) if client.is_strict else fitted_for_others(body, name)
        elif target is ANTHROPIC:
            body = fitted_for_claude(body, name)
        return Outbound(dialect=target.name, body=json.dumps(body, separators=(",", ":")).encode())


class AnswererOfEach:
    """For some agents who answers them, and for all others another one."""

    def __init__(self, named: Mapping[str, Answerer | None], others: Answerer | None) -> None:
        self._named = named
        self._others = others

    async def answer(self, agent: str, request: JsonObject) -> Answered:
        answerer = self._named.get(agent, self._others)
        if answerer is None:
            raise UpstreamError(f"no model is configured for the agent {agent!r}", status=503)
        return await answerer.answer(agent, request)


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
        return _answered(answered_object(self._upstream.name, raw), self._upstream.name, _no_price)

    async def _model(self, agent: str) -> str:
        version = await asyncio.to_thread(self._journal.serving, agent)
        if version != BASE_VERSION:
            return (await asyncio.to_thread(self._journal.version, agent, version)).sampler_path
        names = [model.get("id") for model in await self._upstream.models()]
        if not names or not isinstance(names[0], str):
            raise UpstreamError(f"{self._upstream.name} lists no model", status=502)
        return names[0]


def _answered(chat: JsonObject, name: str, prices: Prices) -> Answered:
    answer = parse_answer(without_think_block(chat))
    if answer.message is None:
        raise UpstreamError(f"{name} answered without a message", status=502)
    tokens = token_counts(answer.usage)
    return Answered(
        message={"role": "assistant", **answer.message},
        finish_reason=answer.finish_reason,
        tokens=tokens,
        cost_usd=None if tokens is None else prices(name, answer.model or "", tokens),
    )


def _no_price(upstream: str, model: str, tokens: TokenCounts) -> float | None:
    del upstream, model, tokens  # what one's own machine takes has no list price
    return None
