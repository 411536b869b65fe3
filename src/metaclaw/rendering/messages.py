"""From messages as clients send them to messages as chat templates expect them.

Owns roles, flattening of content parts and the form of tool calls; refuses to know tokens. Invariant: text is
never changed, only joined, and what no template could show is refused rather than dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from metaclaw.errors import InvalidRequestError

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_KEPT = ("name", "tool_call_id", "reasoning_content")
_NEWER_NAMES = {"reasoning": "reasoning_content"}  # OpenRouter's and newer vLLM's name


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``messages`` with template roles, plain text content and tool arguments as objects.

    Raises ``InvalidRequestError`` that names the message and the field.
    """
    if not messages:
        raise InvalidRequestError("messages must hold at least one message", param="messages")
    return [_template_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _template_message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(sorted(_ROLES))
        raise InvalidRequestError(f"{where}.role is {role!r:.200}; known roles are {known}", param="messages")
    shaped: dict[str, Any] = {"role": _ROLES[role], "content": _text(message.get("content"), where)}
    for key in (*_KEPT, "reasoning"):
        if message.get(key) is not None:
            shaped.setdefault(_NEWER_NAMES.get(key, key), _string(message[key], f"{where}.{key}"))
    calls = message.get("tool_calls")
    if calls:
        if not isinstance(calls, list):
            raise InvalidRequestError(f"{where}.tool_calls must be a list", param="messages")
        shaped["tool_calls"] = [_tool_call(call, f"{where}.tool_calls") for call in cast(list[Any], calls)]
    return shaped


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{where} must be text", param="messages")
    return value


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequestError(f"{where}.content must be text or a list of parts", param="messages")
    return "".join(_part_text(part, where) for part in cast(list[Any], content))


def _part_text(part: Any, where: str) -> str:
    kind = cast(dict[str, Any], part).get("type") if isinstance(part, dict) else None
    text = cast(dict[str, Any], part).get("text") if kind == "text" else None
    if not isinstance(text, str):
        raise InvalidRequestError(
            f"{where}.content holds a part of type {kind!r:.200}; this model reads text only", param="messages"
        )
    return text


def _tool_call(call: Any, where: str) -> dict[str, Any]:
    function = cast(dict[str, Any], call).get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(cast(dict[str, Any], function).get("name"), str):
        raise InvalidRequestError(f"{where} must hold functions with a name and arguments", param="messages")
    body = cast(dict[str, Any], function)
    return {**cast(dict[str, Any], call), "function": {**body, "arguments": _arguments(body.get("arguments"))}}


def _arguments(arguments: Any) -> Any:
    # The API carries arguments as JSON text; templates write them with ``tojson``, which would quote it once more.
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments  # a model's malformed call is history: it is shown as it was
    return cast(Any, parsed) if isinstance(parsed, dict) else arguments
