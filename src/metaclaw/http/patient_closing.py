"""A connection that is closed only when the request that was answered has been read.

Owns the time between the two; refuses to know what was answered. Invariant: after ``close`` nothing more is written,
and the connection ends with ``finish`` at the latest.

A system answers to bytes that come after the close with a reset, and a reset may take with it what the client has not
read yet: it would see a broken pipe where the answer says what was wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from metaclaw.http.joined_heads import JoinedHeads


class PatientTransport(JoinedHeads):
    """Stands before the real transport.

    ``begin_waiting`` says whether a part of a request is still to come; then it sees to it that ``finish`` is called.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, begin_waiting: Callable[[], bool]
    ) -> None:
        super().__init__(transport, loop)
        self._begin_waiting = begin_waiting
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            super().write(data)

    def close(self) -> None:
        """Say that no more comes; the rest of a request may still come until ``finish``."""
        if self._is_closing:
            return
        if super().is_closing() or not self._begin_waiting():
            super().close()
            return
        self.release()
        self._is_closing = True
        self.transport.write_eof()
        self.transport.resume_reading()  # who reads a body slowly may have paused it

    def finish(self) -> None:
        """Close now."""
        super().close()

    def is_closing(self) -> bool:
        return self._is_closing or self.transport.is_closing()
