"""Requests and answers of Anthropic's messages that several tests use."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

TOOL = {"name": "ls", "description": "Lists files", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {
    "type": "function",
    "function": {"name": "ls", "description": "Lists files", "parameters": {"type": "object", "properties": {}}},
}
PIXEL = "iVBORw0KGgo="


def text(value: str, **more: Any) -> Json:
    return {"type": "text", "text": value, **more}


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Json:
    return {"role": "assistant", "content": content}


def use(uid: str, name: str = "ls", **arguments: Any) -> Json:
    return {"type": "tool_use", "id": uid, "name": name, "input": arguments}


def result(uid: str, content: Any, **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": uid, "content": content, **more}


def image(media_type: str = "image/png") -> Json:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": PIXEL}}


def call(uid: str, arguments: str = "{}", name: str = "ls") -> Json:
    return {"id": uid, "type": "function", "function": {"name": name, "arguments": arguments}}


def request(*messages: Json, **more: Any) -> Json:
    return {"model": "m", "max_tokens": 100, "messages": list(messages), **more}
