"""The job that gives memories their vectors, whoever wrote them.

Owns being a job; refuses to know vectors. Invariant: an embedder that is down costs the time until it is back, no more.
"""

from __future__ import annotations

import logging

from metaclaw.memory.embedding import UnitEmbedding

_log = logging.getLogger(__name__)


class EmbeddingMemories:
    """Embeds what was remembered since."""

    name = "embedding memories"

    def __init__(self, embedding: UnitEmbedding, *, poll_s: float = 2.0) -> None:
        self.poll_s = poll_s
        self._embedding = embedding

    async def step(self) -> bool:
        """Embed some; whether there were any. Raises ``JournalError``."""
        number = await self._embedding.step()
        if number:
            _log.info("%d memories can be found by their meaning now", number)
        return bool(number)
