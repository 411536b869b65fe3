"""How many tokens an Anthropic request takes, where nobody counts them.

Owns what of a request is prompt; refuses to know tokenizers. Invariant: it never raises, and errs upwards.
"""

from __future__ import annotations

import json

from metaclaw.chat.anthropic.conversation import system_blocks
from metaclaw.chat.anthropic.fields import object_in, objects, text_in
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.token_estimate import estimate_tokens

_FRAME = 4  # tokens around a message or a tool
_IMAGE = 1600  # what Anthropic's largest takes after it was scaled down
_DOCUMENT, _DOCUMENT_CHARACTERS = 3000, 64 * 1024  # tokens for so much base64: a page or two, as text and as a picture


def estimate_request(body: JsonObject) -> int:
    """About how many tokens the system prompt, the messages and the tools of ``body`` take."""
    system = body.get("system")
    content = system if isinstance(system, str) else system_blocks(system)
    messages = [_FRAME + _content(message.get("content")) for message in objects(body.get("messages"))]
    tools = [_FRAME + _written(tool) for tool in objects(body.get("tools"))]
    return _content(content) + sum(messages) + sum(tools)


def _content(content: object) -> int:
    if isinstance(content, str):
        return estimate_tokens(content)
    return sum(map(_block, objects(content)))


def _block(block: JsonObject) -> int:
    match block.get("type"):
        case "text":
            return estimate_tokens(text_in(block.get("text")))
        case "thinking":
            return estimate_tokens(text_in(block.get("thinking")))
        case "tool_result":
            return _FRAME + _content(block.get("content"))
        case "image":
            return _IMAGE
        case "document":
            return _document(object_in(block.get("source")))
        case _:
            return _FRAME + _written({key: value for key, value in block.items() if key != "cache_control"})


def _document(source: JsonObject) -> int:
    if source.get("type") == "text":
        return estimate_tokens(text_in(source.get("data")))
    if source.get("type") == "content":
        return _content(source.get("content"))
    return _DOCUMENT * (1 + len(text_in(source.get("data"))) // _DOCUMENT_CHARACTERS)


def _written(value: JsonObject) -> int:
    try:
        return estimate_tokens(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return 0
