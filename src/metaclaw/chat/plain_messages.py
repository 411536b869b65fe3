"""The messages of a translated request, as any model that speaks chat takes them.

Owns what chat models and their servers refuse though OpenAI's API knows it; refuses to know where the messages come
from. Invariant: nothing that is said is lost, and messages that are plain already are not changed.

Templates of open models (Qwen's) refuse a system message that is not the first, DeepSeek and others a list where one
text would do, and OpenAI itself a picture in a tool's result. Instructions that come later join the user's words as the
reminders that Claude Code itself puts there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from metaclaw.chat.messages import JsonObject, text_parts

_REMINDER = "<system-reminder>\n{}\n</system-reminder>"


def plain_messages(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """One system message at most, and that first; results at calls, pictures at users; text alone as one string."""
    ordered = _with_results_at_calls(_with_system_first(messages))
    return [_plain(message) for message in _with_pictures_at_users(ordered)]


def _with_system_first(messages: Iterable[JsonObject]) -> list[JsonObject]:
    result: list[JsonObject] = []
    for message in messages:
        if message["role"] != "system" or not result:
            result.append(message)
            continue
        last, content = result[-1], message.get("content")
        instructions = "\n\n".join(text_parts(content))
        others = [part for part in _parts(content) if part.get("type") != "text"]
        if last["role"] == "system" and not others:  # another one at the beginning
            result[-1] = {**last, "content": "\n\n".join([*text_parts(last.get("content")), instructions])}
            continue
        told = [_text(_REMINDER.format(instructions)), *others]
        if last["role"] == "user":
            result[-1] = {**last, "content": [*_parts(last.get("content")), *told]}
        else:
            result.append({"role": "user", "content": told})
    return result


def _with_results_at_calls(messages: Iterable[JsonObject]) -> list[JsonObject]:
    result: list[JsonObject] = []
    others: list[JsonObject] = []  # what was said after an answer with calls, not by its tools
    has_calls = False
    for message in messages:
        if message["role"] == "assistant":
            result += [*others, message]
            others, has_calls = [], bool(message.get("tool_calls"))
        elif has_calls and message["role"] != "tool":
            others.append(message)
        else:
            result.append(message)
    return result + others


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
                message = {**message, "content": [*pictures, *_parts(message.get("content"))]}
            else:
                result.append({"role": "user", "content": pictures})
            pictures = []
        result.append(message)
    return [*result, {"role": "user", "content": pictures}] if pictures else result


def _without_pictures(message: JsonObject) -> tuple[list[JsonObject], JsonObject]:
    parts = _parts(message.get("content"))
    pictures = [part for part in parts if part.get("type") != "text"]
    if not pictures:
        return [], message
    label = _text(f"Of the result of the tool call {message['tool_call_id']}:")
    return [label, *pictures], {**message, "content": [part for part in parts if part.get("type") == "text"]}


def _parts(content: object) -> list[JsonObject]:
    if isinstance(content, str):
        return [_text(content)]
    return cast(list[JsonObject], content) if isinstance(content, list) else []


def _text(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def _plain(message: JsonObject) -> JsonObject:
    content = message.get("content")
    if not isinstance(content, list) or any(part.get("type") != "text" for part in _parts(cast(object, content))):
        return message
    return {**message, "content": "\n\n".join(text_parts(cast(object, content)))}
