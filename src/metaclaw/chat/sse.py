"""Reading server-sent events.

Owns the splitting of a byte stream into events; refuses to know what an event means. Invariant: wherever the
stream is cut into chunks, the same events come out, and their raw bytes joined are the stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DONE = "[DONE]"  # the data of the event that ends a stream in OpenAI's dialects

# Atomic, or the engine would give back half of a CRLF and call it two line ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
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

    def finish(self) -> list[SseEvent]:
        """The event that a stream left unterminated, if any. Some servers omit the last blank line."""
        rest, self._buffer, self._searched = self._buffer, b"", 0
        return [_parse(rest)] if rest.strip() else []


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
