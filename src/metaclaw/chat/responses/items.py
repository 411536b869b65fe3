"""Chat messages as the items of a request.

Owns how each role is written; refuses to know parameters. Invariant: what has no item is an ``InvalidRequestError``
that names it, and reading the items back gives the messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text, objects_in
from metaclaw.chat.responses.parts import content_from_chat
from metaclaw.errors import InvalidRequestError

_SPEAKERS = ("system", "developer", "user")


def items_of(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """The items, in order. Raises ``InvalidRequestError``."""
    items: list[JsonObject] = []
    for index, message in enumerate(messages):
        items += _items_of(message, f"messages[{index}]")
    return items


def _items_of(message: JsonObject, where: str) -> list[JsonObject]:
    role = message.get("role")
    if role in _SPEAKERS:
        if message.get("name"):
            raise InvalidRequestError(f"{where}: the responses API has no 'name' of a speaker", param=f"{where}.name")
        content = content_from_chat(message.get("content"), f"{where}.content")
        return [{**message, "type": "message", "content": content}]
    if role == "assistant":
        return _items_of_answer(message, where)
    if role == "tool":
        output = content_from_chat(message.get("content"), f"{where}.content")
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": output}]
    raise InvalidRequestError(f"{where}: the responses API has no role {role!r:.40}", param=f"{where}.role")


def _items_of_answer(message: JsonObject, where: str) -> list[JsonObject]:
    for name in ("audio", "function_call", "name"):
        if message.get(name):
            raise InvalidRequestError(f"{where}: the responses API takes no {name!r} back", param=f"{where}.{name}")
    items: list[JsonObject] = []
    if thought := as_text(message.get("reasoning_content")):
        content = [{"type": "reasoning_text", "text": thought}]
        items.append({"type": "reasoning", "summary": [], "content": content})
    called = objects_in(message.get("tool_calls"))
    calls = [_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(called)]
    said = _said(message, where)
    if said or not (calls or items):
        items.append({"type": "message", "role": "assistant", "content": said})
    return items + calls


def _said(message: JsonObject, where: str) -> str | list[JsonObject]:
    said = content_from_chat(message.get("content"), f"{where}.content", text_type="output_text")
    refusal = message.get("refusal")
    if not refusal:
        return said
    texts = [{"type": "output_text", "text": said}] if isinstance(said, str) and said else said or []
    return [*objects_in(texts), {"type": "refusal", "refusal": refusal}]


def _call(call: JsonObject, where: str) -> JsonObject:
    kind = call.get("type") or "function"
    if kind != "function":
        raise InvalidRequestError(f"{where}: calls of type {kind!r:.40} are not translated", param=f"{where}.type")
    function = as_object(call.get("function"))
    return {
        "type": "function_call",
        "call_id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments") or "",
    }
