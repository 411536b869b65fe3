"""The job that reads a session for memories when somebody asks.

Owns answering what was asked; refuses to know how anything is read. Invariant: what was asked for is answered after it
was done, and a reading that failed is tried again and stays unanswered until then.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from metaclaw.journal.learning import Clock
from metaclaw.memory.extraction.elsewhere import answer_reading, asked_readings
from metaclaw.memory.store import MemoryStore


class Reader(Protocol):
    """Who reads. Raises ``UpstreamError`` while that cannot be done."""

    async def read_now(self, agent: str, session: str | None) -> tuple[int, int]: ...


class ReadingNow:
    """Looks for what was asked, often: somebody waits."""

    name = "reading on request"

    def __init__(self, store: MemoryStore, reader: Reader, *, poll_s: float = 0.5, clock: Clock = time.time) -> None:
        self.poll_s = poll_s
        self._store = store
        self._reader = reader
        self._clock = clock

    async def step(self) -> bool:
        """Read what was asked for; return whether anything was."""
        asked = await asyncio.to_thread(asked_readings, self._store)
        for one in asked:
            added, sessions = await self._reader.read_now(one.agent, one.session)
            await asyncio.to_thread(
                answer_reading, self._store, one.id, num_added=added, num_sessions=sessions, now=self._clock()
            )
        return bool(asked)
