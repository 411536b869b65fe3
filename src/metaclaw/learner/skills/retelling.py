"""A recorded turn as a chat request, whatever dialect its client spoke.

Owns what of a request is told again; refuses to know what is recalled for it and who answers. Invariant: what chat
cannot say is an ``InvalidRequestError`` that names it, so that nobody is asked something else than the client asked.

The journal keeps a conversation in chat form and the rest of a body as it came, so the two are translated apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from metaclaw.chat.dialects import ANTHROPIC, CHAT, COMPLETIONS, DIALECTS, RESPONSES, TO_CHAT
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.plain_messages import plain_messages
from metaclaw.errors import InvalidRequestError
from metaclaw.journal.turns import RecordedTurn

_KEPT = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "reasoning_effort", "response_format", "stop",
    "tools", "tool_choice", "parallel_tool_calls",
)  # fmt: skip
# A conversation that says nothing, in the place of that which the journal keeps apart.
_NOTHING_SAID: Mapping[str, JsonObject] = {
    CHAT.name: {"messages": [{"role": "user", "content": "."}]},
    ANTHROPIC.name: {"messages": [{"role": "user", "content": "."}]},
    RESPONSES.name: {"input": "."},
    COMPLETIONS.name: {"prompt": "."},
}
_PARTS = ("text", "image_url", "input_audio", "file", "refusal")


def retold_settings(turn: RecordedTurn) -> JsonObject:
    """The model, the settings and the tools of a turn. Raises ``InvalidRequestError``."""
    if turn.dialect not in TO_CHAT:
        raise InvalidRequestError(f"what is asked in {turn.dialect} cannot be told in chat")
    chat = DIALECTS[turn.dialect].to_chat({**turn.request, **_NOTHING_SAID[turn.dialect]})
    return {"model": turn.model, **{key: chat[key] for key in _KEPT if chat.get(key) is not None}}


def retold(turn: RecordedTurn, messages: Sequence[JsonObject]) -> JsonObject:
    """The request of ``turn`` with these messages in chat form. Raises ``InvalidRequestError``."""
    settings = retold_settings(turn)
    if turn.dialect == CHAT.name:
        return {**settings, "messages": list(messages)}
    for message in messages:
        _require_sayable(message)
    return {**settings, "messages": plain_messages(messages)}


def _require_sayable(message: JsonObject) -> None:
    content: Any = message.get("content")
    for part in cast("list[Any]", content) if isinstance(content, list) else []:
        kind = cast(JsonObject, part).get("type") if isinstance(part, dict) else type(part).__name__
        if kind not in _PARTS:
            raise InvalidRequestError(f"it holds content of type {kind!r:.80}, which chat cannot say")
