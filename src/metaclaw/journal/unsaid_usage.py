"""What a turn took, where its model did not say.

Owns the estimate; refuses to know whom it is charged to. Invariant: it is rather too high than too low, and for budgets
alone: a turn's own row never has it, for there unknown stays unknown.

OpenAI's models say what a stream took only to clients that ask for it, and no model says it to one that leaves before
the end. Were those turns free, so would be every stream.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from metaclaw.chat.messages import canonical_json, text_parts
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.token_estimate import estimate_tokens
from metaclaw.chat.usage import TokenCounts

_TOKENS_PER_MEDIUM = 1000  # an image or a sound, whatever its file takes
_TOKENS_AROUND = 4  # a message: its role and what separates it from the others
_CALLS = ("tool_calls", "function_call")
_THOUGHTS = ("reasoning_content", "reasoning")
_ASKED = """
    WITH RECURSIVE history (parent, message) AS (
        SELECT links.parent, links.message FROM turns JOIN links ON links.hash = turns.head WHERE turns.id = ?
        UNION ALL
        SELECT links.parent, links.message FROM links JOIN history ON links.hash = history.parent
    )
    SELECT messages.body FROM history JOIN messages ON messages.hash = history.message
"""


def estimated_usage(connection: sqlite3.Connection, turn_id: str, answer: ChatAnswer) -> TokenCounts:
    """About what the turn that is open as ``turn_id`` took, with this answer."""
    asked = (json.loads(body) for (body,) in connection.execute(_ASKED, (turn_id,)).fetchall())
    return TokenCounts(prompt=sum(map(_tokens, asked)), completion=answer_tokens(answer))


def answer_tokens(answer: ChatAnswer) -> int:
    """About how many tokens this answer is."""
    said = [answer.message, *(other.get("message") for other in answer.others)]
    return sum(map(_tokens, filter(None, said)))


def _tokens(message: Mapping[str, Any]) -> int:
    content: object = message.get("content")
    texts = text_parts(content)
    num_media = len(content) - len(texts) if isinstance(content, list) else 0  # pyright: ignore[reportUnknownArgumentType]
    texts += [thought for name in _THOUGHTS if isinstance(thought := message.get(name), str)]
    texts += [canonical_json(calls) for name in _CALLS if (calls := message.get(name))]
    return estimate_tokens("\n".join(texts)) + num_media * _TOKENS_PER_MEDIUM + _TOKENS_AROUND
