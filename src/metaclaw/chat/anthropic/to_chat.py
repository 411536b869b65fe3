"""A request of Anthropic's messages as a chat request.

Owns the messages' last step to what chat models take; refuses to know single parameters (``options``, ``tools``).
Invariant: the messages are those of ``conversation``, in its order, with text alone as one string, every picture and
file in a user's message, and nothing of the system's after the first message.

Claude Code sends messages of the role ``system`` within the conversation. Chat templates of several open models refuse
those, so they join the user's words as the reminders that Claude Code itself puts there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from metaclaw.chat.anthropic.blocks import text_block
from metaclaw.chat.anthropic.conversation import conversation
from metaclaw.chat.anthropic.options import options_to_chat
from metaclaw.chat.anthropic.sayable import require_sayable
from metaclaw.chat.anthropic.tools import tools_to_chat
from metaclaw.chat.messages import JsonObject, text_parts

_REMINDER = "<system-reminder>\n{}\n</system-reminder>"


def request_to_chat(body: JsonObject) -> JsonObject:
    """Raises ``InvalidRequestError`` with the name of what chat cannot say."""
    require_sayable(body)
    messages = messages_to_chat(placed.message for placed in conversation(body))
    return {**options_to_chat(body), **tools_to_chat(body), "messages": messages}


def messages_to_chat(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """What ``conversation`` read, as chat models take it."""
    return [_plain(message) for message in _with_pictures_at_users(_with_system_first(messages))]


def _with_system_first(messages: Iterable[JsonObject]) -> list[JsonObject]:
    result: list[JsonObject] = []
    for message in messages:
        if message["role"] != "system" or not result:
            result.append(message)
            continue
        reminder = text_block(_REMINDER.format("\n\n".join(text_parts(message["content"]))))
        if result[-1]["role"] == "user":
            result[-1] = {**result[-1], "content": [*_parts(result[-1]["content"]), reminder]}
        else:
            result.append({"role": "user", "content": [reminder]})
    return result


def _with_pictures_at_users(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """Chat's tool results are text: their pictures go at the beginning of the user's message that follows."""
    result: list[JsonObject] = []
    pictures: list[JsonObject] = []
    for message in messages:
        if message["role"] == "tool":
            taken, left = _without_pictures(message)
            pictures += taken
            result.append(left)
            continue
        if pictures:
            if message["role"] == "user":
                message = {**message, "content": [*pictures, *_parts(message["content"])]}
            else:
                result.append({"role": "user", "content": pictures})
            pictures = []
        result.append(message)
    return [*result, {"role": "user", "content": pictures}] if pictures else result


def _without_pictures(message: JsonObject) -> tuple[list[JsonObject], JsonObject]:
    parts = _parts(message["content"])
    pictures = [part for part in parts if part.get("type") != "text"]
    if not pictures:
        return [], message
    label = text_block(f"Of the result of the tool call {message['tool_call_id']}:")
    return [label, *pictures], {**message, "content": [part for part in parts if part.get("type") == "text"]}


def _parts(content: object) -> list[JsonObject]:
    return cast(list[JsonObject], content) if isinstance(content, list) else [text_block(cast(str, content))]


def _plain(message: JsonObject) -> JsonObject:
    content = message["content"]
    if not isinstance(content, list) or any(part.get("type") != "text" for part in _parts(cast(object, content))):
        return message
    return {**message, "content": "\n\n".join(text_parts(cast(object, content)))}
