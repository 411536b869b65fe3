"""Thinking of models that sign nothing, in Anthropic's messages.

Owns the mark on it, and taking it out of what goes to a model that checks signatures; refuses to know whose thinking it
is. Invariant: no block is taken out but those that carry the mark.

Clients make a thought without a signature part of what was said (OpenClaw does), so that the answer is not known again
in the history, nor the policy's tokens for it; and Anthropic refuses a history with one, also when it only answers in
the place of another model.
"""

from __future__ import annotations

from metaclaw.chat.anthropic.fields import objects
from metaclaw.chat.messages import JsonObject

SIGNATURE = "metaclaw:unsigned"
_MARK = SIGNATURE.encode()


def without_own_thinking(body: JsonObject, raw: bytes | None = None) -> JsonObject:
    """A request without the blocks that carry the mark; ``body`` itself if there are none. ``raw`` is its text."""
    if raw is not None and _MARK not in raw:
        return body
    messages = objects(body.get("messages"))
    if not any(map(_has_own, messages)):
        return body
    kept = [_without(message) if _has_own(message) else message for message in messages]
    return {**body, "messages": [message for message in kept if message["content"]]}


def _has_own(message: JsonObject) -> bool:
    return any(map(_is_own, objects(message.get("content"))))


def _without(message: JsonObject) -> JsonObject:
    return {**message, "content": [block for block in objects(message["content"]) if not _is_own(block)]}


def _is_own(block: JsonObject) -> bool:
    return block.get("type") == "thinking" and block.get("signature") == SIGNATURE
