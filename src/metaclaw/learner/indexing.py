"""The job that makes the memory's index of words anew after an update.

Owns being a job; refuses to know the index. Invariant: it begins with the others and keeps none of them waiting.
"""

from __future__ import annotations

import logging

from metaclaw.memory.reindexing import Reindexing

_log = logging.getLogger(__name__)


class IndexingMemories:
    """Indexes some memories at a time, until all are."""

    name = "indexing memories"

    def __init__(self, reindexing: Reindexing, *, poll_s: float = 300.0) -> None:
        self.poll_s = poll_s
        self._reindexing = reindexing
        self._number = 0

    async def step(self) -> bool:
        """Index some; whether there were any. Raises ``JournalError``."""
        number = await self._reindexing.step()
        if number and not self._number:
            _log.info("the words of the memories are indexed anew, the newest first; until then some are not found")
        if self._number and not number:
            _log.info("the words of %d memories are indexed anew", self._number)
        self._number = self._number + number if number else 0
        return bool(number)
