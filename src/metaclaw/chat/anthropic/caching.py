"""Marks for Anthropic's prompt cache: set for clients that have none, and as whoever passes them on takes them.

Owns where they stand; refuses to know prices. Invariant: a mark changes no word.

Clients of chat and of responses know a cache that works by itself, as OpenAI's does. Anthropic's reads only up to a
mark, and without any it charges an agent's whole history at each step, up to ten times what it would be. A single
question is not marked: to write the cache costs a quarter more, and nobody would read it.

OpenRouter and other routers pass on the marks of chat requests to Claude's models, on texts of system prompts, of
users and of tools' results (https://openrouter.ai/docs/features/prompt-caching).
"""

from __future__ import annotations

import re

from metaclaw.chat.anthropic.blocks import text_block
from metaclaw.chat.anthropic.fields import objects, text_in
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import without

_KEY = "cache_control"
_MARK: JsonObject = {"type": "ephemeral"}
_MADE_OF = ("system", "tools", "messages", "content")
_CACHELESS_ON_BEDROCK = re.compile(r"claude-(v2|instant|3-(opus|sonnet|haiku)|3-5-sonnet-20240620)")


def with_cache_marks(body: JsonObject) -> JsonObject:
    """A translated request whose system prompt and conversation are kept for the next one."""
    messages = objects(body.get("messages"))
    goes_on = len(messages) > 1 or body.get("tools")
    if not goes_on or messages[-1].get("role") != "user":
        return body
    marked = {**body, "messages": [*messages[:-1], {**messages[-1], "content": _marked(messages[-1].get("content"))}]}
    return {**marked, "system": _marked(body["system"])} if body.get("system") else marked


def with_cache_marks_in_chat(body: JsonObject) -> JsonObject:
    """As ``with_cache_marks``, of a chat request to a model of Anthropic's by way of a router."""
    messages = objects(body.get("messages"))
    is_system = [message.get("role") == "system" for message in messages]
    goes_on = is_system.count(False) > 1 or body.get("tools")
    if not goes_on or not messages or messages[-1].get("role") not in ("user", "tool"):
        return body
    marked = {is_system.index(True) if any(is_system) else -1, len(messages) - 1}
    kept = [_marked_text(message) if at in marked else message for at, message in enumerate(messages)]
    return {**body, "messages": kept}


def with_marks_for_bedrock(body: JsonObject, model: str) -> JsonObject:
    """A request for ``model`` on Bedrock, which knows no mark of a whole request, and of older models' none at all.

    It refuses what it does not know (400). https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    if _CACHELESS_ON_BEDROCK.search(model):
        return _without_marks(body)
    if _KEY not in body:
        return body
    whole, kept = body[_KEY], without(body, _KEY)
    messages = objects(kept.get("messages"))
    blocks = _blocks(messages[-1].get("content")) if messages else []
    if not blocks or _KEY in blocks[-1]:
        return kept
    last = {**messages[-1], "content": [*blocks[:-1], {**blocks[-1], _KEY: whole}]}
    return {**kept, "messages": [*messages[:-1], last]}


def _without_marks(marked: JsonObject) -> JsonObject:
    """Without the mark of a body, a message or a block, and of what they are made of; what is in a call is no mark."""
    lists = {name: marked[name] for name in _MADE_OF if isinstance(marked.get(name), list)}
    return {**without(marked, _KEY), **{name: [*map(_without_marks, objects(it))] for name, it in lists.items()}}


def _marked_text(message: JsonObject) -> JsonObject:
    content = message.get("content")
    parts = _blocks(content)
    texts = [at for at, part in enumerate(parts) if text_in(part.get("text"))]  # an empty one cannot be marked
    if not texts:
        return message
    parts[texts[-1]] = {**parts[texts[-1]], _KEY: _MARK}
    return {**message, "content": parts}


def _marked(content: object) -> list[JsonObject]:
    blocks = _blocks(content)
    return [*blocks[:-1], {**blocks[-1], _KEY: _MARK}] if blocks else blocks


def _blocks(content: object) -> list[JsonObject]:
    return [text_block(content)] if isinstance(content, str) else objects(content)
