"""OpenAI's chat stream, read and written.

Owns what its events mean and how they end; refuses to know transport and what chunks are folded into. Invariant:
reading never raises, and what was read is written back with the same content.
"""

from __future__ import annotations

import contextlib
import json
from typing import cast

from pydantic_core import from_json

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.chat.reading import as_count
from metaclaw.chat.sse import DONE, SseEvent, encode_event

_END = encode_event(DONE)


class ChatSource:
    """The chunks of a model that speaks chat."""

    def __init__(self) -> None:
        self.is_done = False  # ``[DONE]`` came, or a finish reason of each answer that has begun
        self.error: JsonObject | None = None
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def add_event(self, event: SseEvent) -> list[JsonObject]:
        if event.data is None:
            return []
        if event.data == DONE:
            self.is_done = True
            return []
        chunk = _object(event.data)
        if chunk is None:
            return []
        if chunk.get("error") is not None:
            self.error = object_or_none(chunk["error"]) or {"message": str(chunk["error"])}
            return []
        for choice in choices_of(chunk):
            index = as_count(choice.get("index"))
            self._begun.add(index)
            if choice.get("finish_reason"):
                self._ended.add(index)
            self.is_done = self._begun == self._ended
        return [chunk]


class ChatSink:
    """Chunks for a client that speaks chat.

    Without ``wants_usage`` a chunk of nothing but usage is left out: OpenAI sends none unasked, and what reads
    ``choices[0]`` of every chunk breaks on it.
    """

    def __init__(self, *, wants_usage: bool = True) -> None:
        self._wants_usage = wants_usage

    def add_chunk(self, chunk: JsonObject) -> bytes:
        if not self._wants_usage and not chunk.get("choices") and chunk.get("usage"):
            return b""
        return encode_event(json.dumps(chunk, separators=(",", ":")))

    def finish(self) -> bytes:
        return _END

    def fail(self, error: JsonObject) -> bytes:
        return encode_event(json.dumps(error))


def choices_of(chunk: JsonObject) -> list[JsonObject]:
    """The choices of a chunk or an answer that are objects."""
    choices: object = chunk.get("choices")
    if not isinstance(choices, list):
        return []
    return [cast(JsonObject, item) for item in cast(list[object], choices) if isinstance(item, dict)]


def _object(data: str) -> JsonObject | None:
    with contextlib.suppress(ValueError):  # a third of the time, but not for half a surrogate pair
        return object_or_none(from_json(data))
    try:
        return object_or_none(json.loads(data))
    except (ValueError, RecursionError):
        return None
