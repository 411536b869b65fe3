"""Server-sent events, read and written.

Owns the splitting of a byte stream into events, and the writing of one; refuses to know what an event means.
Invariant: wherever the stream is cut into chunks, the same events come out, and their raw bytes joined are the stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DONE = "[DONE]"  # the data of the event that ends a stream in OpenAI's dialects

# Atomic, or the engine would give back half of a CRLF and call it two line ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_BOUNDARIES = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class SseEvent:
    """One event. ``data`` is ``None`` when it holds none (a comment, a keep-alive)."""

    raw: bytes
    data: str | None
    event: str | None = None


class SseParser:
    """Feed it bytes as they come; it gives back the events that are complete."""

    def __init__(self) -> None:
        self._buffer = b""
        self._searched = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        buffer = self._buffer + chunk
        events: list[SseEvent] = []
        start, search_from = 0, self._searched
        while (end := _BLANK_LINE.search(buffer, search_from)) is not None:
            events.append(_parse(buffer[start : end.end()]))
            start = search_from = end.end()
        self._buffer = buffer[start:]
        self._searched = max(0, len(self._buffer) - 3)  # a boundary has at most four bytes
        return events

    def rest(self) -> bytes:
        """Take back the beginning of an event that is not complete."""
        rest, self._buffer, self._searched = self._buffer, b"", 0
        return rest

    def finish(self) -> list[SseEvent]:
        """The event that a stream left unterminated, if any. Some servers omit the last blank line."""
        rest = self.rest()
        return [_parse(rest)] if rest.strip() else []


def encode_event(data: str, event: str | None = None) -> bytes:
    """One server-sent event. Every line of ``data`` becomes a ``data:`` line of its own."""
    lines = [] if event is None else [f"event: {event}"]
    lines.extend(f"data: {line}" for line in data.split("\n"))
    return ("\n".join(lines) + "\n\n").encode()


def last_boundary(buffer: bytes) -> int:
    """Where the last complete event in ``buffer`` ends; 0 when none is complete."""
    ends = [found + len(mark) for mark in _BOUNDARIES if (found := buffer.rfind(mark)) >= 0]
    return max(ends, default=0)


def _parse(raw: bytes) -> SseEvent:
    data: list[str] = []
    event: str | None = None
    for line in _LINE_END.split(raw.decode("utf-8", "replace")):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
    return SseEvent(raw=raw, data="\n".join(data) if data else None, event=event)
