"""A plain answer and the stream that brings the same, within one dialect.

Owns which dialects say it in words of their own; refuses to know what those are. Invariant: what comes out says all
that went in. The way by chat would lose what only one maker has: signatures, sealed thinking, built-in tools.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from metaclaw.chat import completion_chunks
from metaclaw.chat.anthropic import whole as anthropic
from metaclaw.chat.dialects import ANTHROPIC, COMPLETIONS, RESPONSES
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import is_list
from metaclaw.chat.responses import whole as responses
from metaclaw.chat.sse import DONE, SseEvent, encode_event


def stream_of(dialect: str, answer: JsonObject) -> bytes | None:
    """All events of a plain ``answer``; ``None`` for a dialect that has none here, and for what is no answer."""
    if dialect == ANTHROPIC.name:
        return anthropic.stream_of(answer)
    if dialect == RESPONSES.name:
        return responses.stream_of(answer)
    if dialect == COMPLETIONS.name and is_list(answer.get("choices")):  # its chunks have the shape of its answers
        return encode_event(json.dumps(answer, separators=(",", ":"))) + encode_event(DONE)
    return None


def answer_of(dialect: str, events: Sequence[SseEvent]) -> JsonObject | None:
    """The plain answer that ``events`` bring; ``None`` for a dialect that has none here, and where they bring none."""
    if dialect == ANTHROPIC.name:
        return anthropic.answer_of(events)
    if dialect == RESPONSES.name:
        return responses.answer_of(events)
    if dialect == COMPLETIONS.name:
        return completion_chunks.answer_of(events)
    return None
