"""Server-sent events, read and written.

Owns the splitting of a byte stream into events, and the writing of one; refuses to know what an event means.
Invariant: wherever the stream is cut into chunks, the same events come out, and their raw bytes joined are the stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

DONE = "[DONE]"  # the data of the event that ends a stream in OpenAI's dialects

# Atomic, or the engine would give back half of a CRLF and call it two line ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LF_ALONE = re.compile(rb"\n\n")  # what nearly all servers write, found in a twentieth of the time
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
        self._buffer = bytearray()  # a large event comes in hundreds of pieces: each is copied once
        self._start: int = 0  # of what was not given as an event yet
        self._searched: int = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        return list(self.events(chunk))

    def events(self, chunk: bytes) -> Iterator[SseEvent]:
        """The events one by one. Whoever stops early finds the others' bytes in ``rest``."""
        search_from = max(0, self._searched - self._start)
        buffer = self._buffer
        del buffer[: self._start]
        buffer += chunk
        start = self._start = 0
        blank_line = _LF_ALONE if buffer.find(b"\r", search_from) < 0 else _BLANK_LINE
        while (end := blank_line.search(buffer, search_from)) is not None:
            event = _parse(bytes(buffer[start : end.end()]))
            start = search_from = end.end()
            self._start = self._searched = start
            yield event
        del buffer[:start]
        self._start, self._searched = 0, max(0, len(buffer) - 3)  # a boundary has at most four bytes

    def rest(self) -> bytes:
        """Take back what was not given as an event yet."""
        rest = bytes(self._buffer[self._start :])
        self._buffer, self._start, self._searched = bytearray(), 0, 0
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


def last_boundary(buffer: bytes | bytearray, new_from: int = 0) -> int:
    """Where the last complete event in ``buffer`` ends; 0 when none is complete, as none was before ``new_from``."""
    if buffer.endswith(_BOUNDARIES):  # nearly always, and it is looked for in each piece of each answer
        return len(buffer)
    start = max(0, new_from - 3)  # a boundary has at most four bytes
    ends = [found + len(mark) for mark in _BOUNDARIES if (found := buffer.rfind(mark, start)) >= 0]
    return max(ends, default=0)


def _parse(raw: bytes) -> SseEvent:
    data: list[str] = []
    event: str | None = None
    text = raw.decode("utf-8", "replace").removeprefix("\ufeff")  # with which .NET may begin a stream
    for line in _LINE_END.split(text) if "\r" in text else text.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
    return SseEvent(raw=raw, data="\n".join(data) if data else None, event=event)
