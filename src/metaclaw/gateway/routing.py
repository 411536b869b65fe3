"""Where a turn is sent.

Owns the choice between the policy and the configured model, and what happens when the policy is not to be had;
refuses to know how an answer is passed on. Invariant: a turn changes its upstream only before the first byte of an
answer, and the reason is logged.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import ChatRequest
from metaclaw.errors import JournalError, UpstreamError
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.policy import Policy, PolicyChoice, sampling_note
from metaclaw.journal.turns import POLICY
from metaclaw.upstreams.openai_compatible import OpenAICompatible, UpstreamReply

OUR_MODEL = "metaclaw"
_RETRY_AFTER_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A turn that is ready to be sent. ``raw`` is the client's body, ``messages`` what the model is to see."""

    request: ChatRequest
    raw: bytes
    messages: list[JsonObject]
    caller: Caller
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """An answer that has begun, and who gives it."""

    reply: UpstreamReply
    upstream: str
    policy: PolicyChoice | None = None
    sampling_note: str | None = None


class Router:
    """Sends turns to the policy if there is one, else to the configured model."""

    def __init__(self, *, policy: Policy | None, llm: OpenAICompatible | None, model_id: str) -> None:
        self._policy = policy
        self._llm = llm
        self._model_id = model_id

    @property
    def upstream_name(self) -> str:
        """Who a turn is opened for."""
        if self._policy is not None:
            return POLICY
        return self._llm.name if self._llm else "none"

    async def send(self, turn: Outgoing) -> Routed:
        """Begin an answer. Raises ``UpstreamError``."""
        if self._policy is None:
            return await self._send_to_llm(turn)
        try:
            return await self._send_to_policy(self._policy, turn)
        except UpstreamError as error:
            if not _is_down(error):
                raise
            if self._llm is None:
                message = f"{error}. No other model is configured (llm.api_base), so nobody can answer now."
                raise UpstreamError(message, status=503, retry_after_s=error.retry_after_s or _RETRY_AFTER_S) from error
            _log.warning("%s; this turn goes to %s and is not trained on", error, self._llm.name)
            return await self._send_to_llm(turn)

    async def _send_to_llm(self, turn: Outgoing) -> Routed:
        if self._llm is None:
            raise UpstreamError("no model is configured: set llm.api_base", status=503, retry_after_s=_RETRY_AFTER_S)
        return Routed(reply=await self._llm.chat(self._llm_body(turn)), upstream=self._llm.name)

    def _llm_body(self, turn: Outgoing) -> JsonObject | bytes:
        request = turn.request
        model = self._llm_model(request.model)
        if model == request.model and turn.messages == request.messages:
            return turn.raw
        changes: JsonObject = {"messages": turn.messages}
        return request.with_changes(**changes, **({"model": model} if model else {}))

    def _llm_model(self, asked: str) -> str:
        # A client asks for one of the upstream's own models, or for "metaclaw" and leaves the choice to llm.model_id.
        is_ours = asked in ("", OUR_MODEL) or asked.startswith(f"{OUR_MODEL}/") or self._policy is not None
        return self._model_id or asked if is_ours else asked

    async def _send_to_policy(self, policy: Policy, turn: Outgoing) -> Routed:
        try:
            choice = await policy.choose(turn.caller, turn.request, now=turn.now)
        except JournalError as error:
            raise _unknown_policy(error) from error
        try:
            return await self._ask(policy, turn, choice)
        except UpstreamError as error:
            if error.status != 404:
                raise
            try:
                other = await policy.choose_again(choice, turn.caller, turn.request, now=turn.now)
            except JournalError as unreadable:
                raise _unknown_policy(unreadable) from unreadable
            if other is None:
                raise
            _log.warning("%s is not on the training server; the session goes on with %s", choice.label, other.label)
            return await self._ask(policy, turn, other)

    async def _ask(self, policy: Policy, turn: Outgoing, choice: PolicyChoice) -> Routed:
        body = policy.body(turn.request, turn.messages, choice, turn.caller)
        return Routed(
            reply=await policy.upstream.chat(body),
            upstream=POLICY,
            policy=choice,
            sampling_note=sampling_note(turn.request, turn.caller),
        )


def _unknown_policy(error: JournalError) -> UpstreamError:
    return UpstreamError(f"which policy serves cannot be read: {error}", status=503)


def _is_down(error: UpstreamError) -> bool:
    # 404 comes here only when the server has none of the agent's versions, 401 and 403 when it refused our key.
    return error.status is None or error.status in (401, 403, 404) or error.status >= 500
