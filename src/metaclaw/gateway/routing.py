"""Where a turn is sent.

Owns the choice between the policy and the configured models, and what happens when the policy is not to be had; refuses
to know what each of them takes (``outbound``), and how an answer is passed on. Invariant: a turn changes its upstream
only before the first byte of an answer, and the reason is logged.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from metaclaw.chat.dialect import ClientRequest, Dialect
from metaclaw.chat.dialects import CHAT, DIALECTS, TO_CHAT
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.errors import JournalError, UpstreamError
from metaclaw.fixed import fixed
from metaclaw.gateway.call_additions import CallAdditions
from metaclaw.gateway.outbound import Outgoing, as_claude_takes, outbound, plain_chat
from metaclaw.gateway.policy import Policy, PolicyChoice
from metaclaw.gateway.unwelcome import Unwelcome
from metaclaw.journal.turns import POLICY
from metaclaw.upstreams.failures import Kind, kind_of
from metaclaw.upstreams.model_client import ModelClient, Reply
from metaclaw.upstreams.pool import Outbound, Sent, UpstreamPool

OUR_MODEL = "metaclaw"
_COUNT = "anthropic.count_tokens"
_RETRY_AFTER_S = 5.0

_log = logging.getLogger(__name__)


@fixed
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

    def __init__(
        self, *, policy: Policy | None, models: UpstreamPool | None, additions: CallAdditions, unwelcome: Unwelcome
    ) -> None:
        self._policy = policy
        self._models = models
        self._additions = additions
        self._unwelcome = unwelcome

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
            name = self._model_name(request.model, model)
            body = {**as_claude_takes(request.body, name), "model": name}
            return Outbound(dialect=_COUNT, body=_encoded(body), headers=headers)

        # Anthropic counts these apart from answers: one that was asked too often says nothing of the other.
        return (await self._models.send(prepare, model_of=lambda _: _COUNT)).reply

    async def _send_to_models(self, turn: Outgoing) -> Routed:
        if self._models is None:
            raise UpstreamError(
                "no model is configured: set llm.provider or llm.api_base", status=503, retry_after_s=_RETRY_AFTER_S
            )
        sent = await self._sent(self._models, turn)
        upstream, is_told = sent.client.name, sent.dialect == CHAT.name != turn.request.dialect
        return Routed(
            reply=sent.reply,
            upstream=upstream,
            dialect=DIALECTS[sent.dialect],
            on_answer=partial(self._additions.remember, upstream) if is_told else None,
        )

    async def _sent(self, models: UpstreamPool, turn: Outgoing) -> Sent:
        dialect, last = turn.request.dialect, list[tuple[Outbound, str, str]]()

        def prepare(model: ModelClient) -> Outbound | None:
            name = self._name_for(turn.request, model)
            asked = outbound(turn, model, name, self._additions, self._unwelcome)
            if asked is not None:
                last[:] = [(asked, model.name, name)]
            return asked

        return await models.send(
            prepare,
            tell=turn.tell,
            model_of=lambda model: self._name_for(turn.request, model),
            again=lambda error: bool(last) and self._unwelcome.is_refused(error, *last[0], dialect=dialect),
        )

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
        chat = CHAT.parse(turn.body if turn.dialect is CHAT else plain_chat(turn.dialect.to_chat(turn.body)))
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


def _encoded(body: JsonObject) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _unknown_policy(error: JournalError) -> UpstreamError:
    return UpstreamError(f"which policy serves cannot be read: {error}", status=503)


def _is_down(error: UpstreamError) -> bool:
    # 404 comes here only when the server has none of the agent's versions. Too many requests is no outage: it passes.
    return error.status == 404 or kind_of(error) not in (Kind.REQUEST, Kind.RATE_LIMIT)
