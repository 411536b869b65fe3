"""Where a turn is sent, and in which dialect.

Owns the choice between the policy and the configured models, the body that each of them gets, and what happens when the
policy is not to be had; refuses to know how an answer is passed on. Invariant: a turn changes its upstream only before
the first byte of an answer, and the reason is logged.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from metaclaw.chat.anthropic.caching import with_cache_marks
from metaclaw.chat.anthropic.older_models import fitted_for_claude
from metaclaw.chat.anthropic.own_thinking import without_own_thinking
from metaclaw.chat.dialect import ClientRequest, Dialect
from metaclaw.chat.dialects import ANTHROPIC, CHAT, DIALECTS, FROM_CHAT, RESPONSES, TO_CHAT
from metaclaw.chat.fitting import fitted_for_others, strictly_openai, without_others_thinking
from metaclaw.chat.functions_by_responses import by_responses, chat_refuses
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.plain_messages import plain_messages
from metaclaw.chat.reading import without
from metaclaw.chat.responses.reasoning import without_own_reasoning, without_reasoning
from metaclaw.errors import JournalError, UpstreamError
from metaclaw.gateway.call_additions import CallAdditions
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.policy import Policy, PolicyChoice
from metaclaw.journal.turns import POLICY
from metaclaw.upstreams.failures import Kind, kind_of
from metaclaw.upstreams.model_client import ModelClient, Reply
from metaclaw.upstreams.pool import Outbound, UpstreamPool

OUR_MODEL = "metaclaw"
_COUNT = "anthropic.count_tokens"
_RETRY_AFTER_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A turn that is ready to be sent: ``body`` in the client's dialect, ``raw`` if it is what the client sent."""

    request: ClientRequest
    raw: bytes | None
    body: JsonObject
    caller: Caller | None  # known before a turn is sent where it ``needs_caller``
    headers: Mapping[str, str]
    now: float
    tell: Callable[[JsonObject], None] | None = None  # about every attempt at a model

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.request.dialect]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """An answer that has begun, who gives it, and in which dialect; ``on_answer`` is told when it is complete."""

    reply: Reply
    upstream: str
    dialect: Dialect
    policy: PolicyChoice | None = None
    sampling_note: str | None = None
    on_answer: Callable[[ChatAnswer], None] | None = None


class Router:
    """Sends turns to the policy if there is one, else to the configured models."""

    def __init__(self, *, policy: Policy | None, models: UpstreamPool | None, additions: CallAdditions) -> None:
        self._policy = policy
        self._models = models
        self._additions = additions

    @property
    def needs_caller(self) -> bool:
        """Whether it depends on who is calling what is sent."""
        return self._policy is not None

    @property
    def policy(self) -> Policy | None:
        return self._policy

    @property
    def models(self) -> UpstreamPool | None:
        return self._models

    @property
    def upstream_name(self) -> str:
        """Who a turn is opened for."""
        if self._policy is not None:
            return POLICY
        return self._models.preferred.name if self._models else "none"

    async def send(self, turn: Outgoing) -> Routed:
        """Begin an answer. Raises ``UpstreamError``, and ``InvalidRequestError`` for what cannot be translated."""
        if self._policy is None or (turn.request.dialect not in TO_CHAT and self._models is not None):
            return await self._send_to_models(turn)
        try:
            return await self._policy.pulse.during(self._send_to_policy(self._policy, turn))
        except UpstreamError as error:
            if not _is_down(error):
                raise
            if self._models is None:
                message = f"{error}. No other model is configured (llm.api_base), so nobody can answer now."
                retry_after_s = error.retry_after_s or _RETRY_AFTER_S
                raise UpstreamError(message, status=503, retry_after_s=retry_after_s, said=error.said) from error
            _log.warning("%s; this turn goes to %s and is not trained on", error, self._models.preferred.name)
            return await self._send_to_models(turn)

    async def count_tokens(self, request: ClientRequest, headers: Mapping[str, str]) -> Reply | None:
        """A model's own count of what ``request`` takes; ``None`` when the one that would answer it does not count."""
        if self._policy is not None or self._models is None or _COUNT not in self._models.preferred.dialects:
            return None

        def prepare(model: ModelClient) -> Outbound | None:
            if _COUNT not in model.dialects:
                return None
            body = {**without_own_thinking(request.body), "model": self._model_name(request.model, model)}
            return Outbound(dialect=_COUNT, body=_encoded(body), headers=headers)

        # Anthropic counts these apart from answers: one that was asked too often says nothing of the other.
        return (await self._models.send(prepare, model_of=lambda _: _COUNT)).reply

    async def _send_to_models(self, turn: Outgoing) -> Routed:
        if self._models is None:
            raise UpstreamError(
                "no model is configured: set llm.provider or llm.api_base", status=503, retry_after_s=_RETRY_AFTER_S
            )
        sent = await self._models.send(
            lambda model: self._outbound(turn, model),
            tell=turn.tell,
            model_of=lambda model: self._name_for(turn.request, model),
        )
        upstream, is_told = sent.client.name, sent.dialect == CHAT.name != turn.request.dialect
        return Routed(
            reply=sent.reply,
            upstream=upstream,
            dialect=DIALECTS[sent.dialect],
            on_answer=partial(self._additions.remember, upstream) if is_told else None,
        )

    def _outbound(self, turn: Outgoing, model: ModelClient) -> Outbound | None:
        name, is_stream = self._name_for(turn.request, model), turn.request.is_stream
        if (asked := _functions_for_openai(turn, model, name)) is not None:
            body = _encoded({**asked, "model": name} if name else asked)
            return Outbound(dialect=RESPONSES.name, body=body, headers={}, is_stream=is_stream)
        if turn.request.dialect in model.dialects:
            body = _without_others_thinking(turn, model)
            if turn.raw is not None and name == turn.request.model and body is turn.body:
                raw = turn.raw
            else:
                raw = _encoded({**body, "model": name} if name else body)
            return Outbound(dialect=turn.request.dialect, body=raw, headers=turn.headers, is_stream=is_stream)
        target = next((DIALECTS[spoken] for spoken in model.dialects if spoken in FROM_CHAT), None)
        if target is None or turn.request.dialect not in TO_CHAT:
            return None  # another one may speak it
        translated = target.from_chat(turn.dialect.to_chat(turn.body))
        if target is CHAT:
            translated = self._fitted(translated, model, name)
        elif target is RESPONSES and model.is_strict:
            translated = without_reasoning(translated)
        elif target is ANTHROPIC:
            translated = with_cache_marks(fitted_for_claude(translated, name or turn.request.model))
        body = _encoded({**translated, "model": name} if name else translated)
        return Outbound(dialect=target.name, body=body, headers={}, is_stream=is_stream)

    def _fitted(self, body: JsonObject, model: ModelClient, name: str) -> JsonObject:
        """A translated chat request as this model takes it."""
        plain = _plain(body)
        if model.is_strict:
            return strictly_openai(plain)
        return fitted_for_others({**plain, "messages": self._additions.restored(model.name, plain["messages"])}, name)

    def _name_for(self, request: ClientRequest, model: ModelClient) -> str:
        # What chat cannot say is not for the model that chats: its own name stands.
        return self._model_name(request.model, model) if request.dialect in TO_CHAT else request.model

    def _model_name(self, asked: str, model: ModelClient) -> str:
        # A client asks for one of the upstream's own models, or for "metaclaw" and leaves the choice to llm.model_id.
        # A fallback does not have the models of the one that it stands in for.
        is_ours = asked in ("", OUR_MODEL) or asked.startswith(f"{OUR_MODEL}/") or self._policy is not None
        is_ours = is_ours or (self._models is not None and self._models.is_fallback(model))
        return model.model_id or asked if is_ours else asked

    async def _send_to_policy(self, policy: Policy, turn: Outgoing) -> Routed:
        assert turn.caller is not None
        chat = CHAT.parse(turn.body if turn.dialect is CHAT else _plain(turn.dialect.to_chat(turn.body)))
        try:
            choice = await policy.choose(turn.caller, chat, now=turn.now)
        except JournalError as error:
            raise _unknown_policy(error) from error
        try:
            return await self._ask(policy, turn, chat, choice)
        except UpstreamError as error:
            if error.status != 404:
                raise
            try:
                other = await policy.choose_again(choice, turn.caller, chat, now=turn.now)
            except JournalError as unreadable:
                raise _unknown_policy(unreadable) from unreadable
            if other is None:
                raise
            _log.warning("%s is not on the training server; the session goes on with %s", choice.label, other.label)
            return await self._ask(policy, turn, chat, other)

    async def _ask(self, policy: Policy, turn: Outgoing, chat: ClientRequest, choice: PolicyChoice) -> Routed:
        caller = turn.caller
        assert caller is not None
        body = await policy.body(chat, choice, caller)
        status, began_at = None, time.monotonic()
        try:
            reply = await policy.upstream.chat(body)
            status = reply.status
        except UpstreamError as error:
            status = error.status
            raise
        finally:
            if turn.tell is not None:
                key, seconds = policy.upstream.upstream.key_setting, round(time.monotonic() - began_at, 4)
                turn.tell({"upstream": POLICY, "credential": key, "status": status, "seconds": seconds})
        return Routed(
            reply=reply,
            upstream=POLICY,
            dialect=CHAT,
            policy=choice,
            sampling_note=policy.sampling_note(chat, caller),
            on_answer=lambda answer: policy.history.remember(caller.agent, caller.session, answer),
        )


def _functions_for_openai(turn: Outgoing, model: ModelClient, name: str) -> JsonObject | None:
    """What OpenAI is asked by responses though its chat could say it; ``None`` for all else."""
    if not model.is_strict or RESPONSES.name not in model.dialects or turn.dialect not in (CHAT, ANTHROPIC):
        return None
    if turn.dialect is CHAT and not chat_refuses(turn.body, name):
        return None  # a client's own dialect goes through as it is, if it can
    return by_responses(turn.dialect.to_chat(turn.body))


def _without_others_thinking(turn: Outgoing, model: ModelClient) -> JsonObject:
    """The body for a model that speaks the client's dialect, and would refuse the thinking that other models said."""
    if turn.dialect is ANTHROPIC:
        return without_own_thinking(turn.body, turn.raw)
    if turn.dialect is RESPONSES:
        return without_own_reasoning(turn.body, turn.raw)
    return without_others_thinking(turn.body, turn.raw) if model.is_strict and turn.dialect is CHAT else turn.body


def _plain(body: JsonObject) -> JsonObject:
    # What is sealed is for the model that sealed it.
    messages = [without(message, "thinking_blocks") for message in plain_messages(body["messages"])]
    return {**body, "messages": messages}


def _encoded(body: JsonObject) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _unknown_policy(error: JournalError) -> UpstreamError:
    return UpstreamError(f"which policy serves cannot be read: {error}", status=503)


def _is_down(error: UpstreamError) -> bool:
    # 404 comes here only when the server has none of the agent's versions. Too many requests is no outage: it passes.
    return error.status == 404 or kind_of(error) not in (Kind.REQUEST, Kind.RATE_LIMIT)
