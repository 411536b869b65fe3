"""A translated chat request, made to fit a model that takes nothing but what OpenAI's own chat API knows.

Owns what our translations say beyond that API; refuses to know providers. Invariant: nothing that the conversation says
is lost but thinking, which such models neither take back nor need.
"""

from __future__ import annotations

from typing import cast

from metaclaw.chat.messages import JsonObject

_NOT_OPENAIS = ("reasoning_content", "reasoning", "thinking_blocks")


def strictly_openai(body: JsonObject) -> JsonObject:
    """``body`` without thinking in the history, and with the length limit under its name of today.

    OpenAI's models that reason refuse ``max_tokens`` (its API reference, chat completions).
    """
    messages = [
        {key: value for key, value in message.items() if key not in _NOT_OPENAIS}
        for message in cast("list[JsonObject]", body.get("messages") or [])
    ]
    changed = {**body, "messages": messages}
    if "max_tokens" in changed:
        limit = changed.pop("max_tokens")
        changed.setdefault("max_completion_tokens", limit)
    return changed
