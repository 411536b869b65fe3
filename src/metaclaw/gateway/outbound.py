"""What one model is asked when a turn goes to it.

Owns the dialect that it is asked in, and what it would refuse or wants beside it; refuses to know who is asked, and in
which order. Invariant: what a model speaks itself and takes goes to it byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from metaclaw.chat.anthropic.caching import with_cache_marks
from metaclaw.chat.anthropic.call_ids import with_ids_for_claude
from metaclaw.chat.anthropic.older_models import fitted_for_claude
from metaclaw.chat.anthropic.own_thinking import without_own_thinking
from metaclaw.chat.anthropic.tools import with_tools_called
from metaclaw.chat.dialect import ClientRequest, Dialect
from metaclaw.chat.dialects import ANTHROPIC, CHAT, DIALECTS, FROM_CHAT, RESPONSES, TO_CHAT
from metaclaw.chat.fitting import fitted_for_others, strictly_openai, without_others_thinking
from metaclaw.chat.functions_by_responses import by_responses, chat_refuses
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.plain_messages import plain_messages
from metaclaw.chat.reading import without
from metaclaw.chat.responses.reasoning import without_own_reasoning, without_reasoning
from metaclaw.fixed import fixed
from metaclaw.gateway.call_additions import CallAdditions
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.unwelcome import Unwelcome
from metaclaw.upstreams.model_client import ModelClient
from metaclaw.upstreams.pool import Outbound

_CLAUDE = "claude"  # others that speak its dialect take ids as they gave them


@fixed
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


def outbound(
    turn: Outgoing, model: ModelClient, name: str, additions: CallAdditions, unwelcome: Unwelcome
) -> Outbound | None:
    """The request for ``model`` under ``name``; ``None`` when it speaks nothing that this can be said in."""
    is_stream = turn.request.is_stream
    if (asked := _functions_for_openai(turn, model, name)) is not None:
        asked = unwelcome.fitted(asked, model.name, name)
        return Outbound(dialect=RESPONSES.name, body=_named(asked, name), is_stream=is_stream)
    if turn.request.dialect in model.dialects:
        body = unwelcome.fitted(_as_it_takes_others(turn, model, name), model.name, name, is_own=True)
        is_unchanged = name == turn.request.model and body is turn.body
        raw = turn.raw if is_unchanged and turn.raw is not None else _named(body, name)
        return Outbound(dialect=turn.request.dialect, body=raw, headers=turn.headers, is_stream=is_stream)
    target = next((DIALECTS[spoken] for spoken in model.dialects if spoken in FROM_CHAT), None)
    if target is None or turn.request.dialect not in TO_CHAT:
        return None  # another one may speak it
    body = target.from_chat(turn.dialect.to_chat(turn.body))
    if target is CHAT:
        body = _fitted_chat(body, model, name, additions)
    elif target is RESPONSES and model.is_strict:
        body = without_reasoning(body)
    elif target is ANTHROPIC:
        body = with_cache_marks(with_tools_called(fitted_for_claude(body, name or turn.request.model)))
    body = unwelcome.fitted(body, model.name, name)
    return Outbound(dialect=target.name, body=_named(body, name), is_stream=is_stream)


def as_claude_takes(body: JsonObject, name: str, raw: bytes | None = None) -> JsonObject:
    """A request of Anthropic's messages for ``name``, without what other models left in it. ``raw`` is its text."""
    body = without_own_thinking(body, raw)
    return with_ids_for_claude(body) if _CLAUDE in name else body


def plain_chat(body: JsonObject) -> JsonObject:
    """A chat ``body`` as any model takes it."""
    # What is sealed is for the model that sealed it.
    messages = [without(message, "thinking_blocks") for message in plain_messages(body["messages"])]
    return {**body, "messages": messages}


def _fitted_chat(body: JsonObject, model: ModelClient, name: str, additions: CallAdditions) -> JsonObject:
    plain = plain_chat(body)
    if model.is_strict:
        return strictly_openai(plain)
    return fitted_for_others({**plain, "messages": additions.restored(model.name, plain["messages"])}, name)


def _functions_for_openai(turn: Outgoing, model: ModelClient, name: str) -> JsonObject | None:
    """What OpenAI is asked by responses though its chat could say it; ``None`` for all else."""
    if not model.is_strict or RESPONSES.name not in model.dialects or turn.dialect not in (CHAT, ANTHROPIC):
        return None
    if turn.dialect is CHAT and not chat_refuses(turn.body, name):
        return None  # a client's own dialect goes through as it is, if it can
    return by_responses(turn.dialect.to_chat(turn.body))


def _as_it_takes_others(turn: Outgoing, model: ModelClient, name: str) -> JsonObject:
    """The body for a model that speaks the client's dialect, and would refuse what other models thought and called."""
    if turn.dialect is ANTHROPIC:
        return as_claude_takes(turn.body, name or turn.request.model, turn.raw)
    if turn.dialect is RESPONSES:
        return without_own_reasoning(turn.body, turn.raw)
    return without_others_thinking(turn.body, turn.raw) if model.is_strict and turn.dialect is CHAT else turn.body


def _named(body: JsonObject, name: str) -> bytes:
    return json.dumps({**body, "model": name} if name else body, separators=(",", ":")).encode()
