"""Giving every unit its vector.

Owns which units have none yet and what becomes of the vectors of a model that is used no more; refuses to know when
this is due and where vectors come from. Invariants: whoever wrote a unit, it is embedded sooner or later; and the
vectors of the former model stay until the present one has made its own.
"""

from __future__ import annotations

import asyncio

from metaclaw.memory.store import MemoryStore, told
from metaclaw.memory.vector_files import drop_broken, drop_others, vector_files, without_vector, write_vectors
from metaclaw.retrieval.breaker import Breaker

_BATCH = 256


class UnitEmbedding:
    """Embeds the units of ``store``, which nobody else uses, with ``embedder``."""

    def __init__(self, store: MemoryStore, embedder: Breaker) -> None:
        self._store = store
        self._embedder = embedder
        self._done_at: int | None = None  # the version of the file in which nothing was missing

    async def step(self) -> int | None:
        """Embed some units; how many, ``None`` when the embedder cannot now. Raises ``JournalError``."""
        texts = await asyncio.to_thread(self._missing)
        if not texts:
            return 0
        vectors = await self._embedder.embed(list(texts.values()), kind="passage")
        if vectors is None:
            return None
        rows = {unit: vector.tobytes() for unit, vector in zip(texts, vectors, strict=True)}
        await asyncio.to_thread(self._keep, int(vectors.shape[1]), rows)
        return len(rows)

    def num_missing(self) -> int:
        """How many units have no vector. Blocking."""
        with told("read"):
            return len(without_vector(self._store.connection, self._embedder.name, None))

    def _missing(self) -> dict[str, str]:
        connection = self._store.connection
        with told("read"):
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version == self._done_at:
                return {}
            files = vector_files(connection)
        if not all(file.is_whole for file in files):
            with self._store.writing("embed"):
                drop_broken(connection)
        with told("read"):
            texts = without_vector(connection, self._embedder.name, _BATCH)
        if not texts:
            if any(file.model != self._embedder.name for file in files):
                with self._store.writing("embed"):
                    drop_others(connection, self._embedder.name)
            self._done_at = version
        return texts

    def _keep(self, width: int, rows: dict[str, bytes]) -> None:
        with self._store.writing("embed"):
            write_vectors(self._store.connection, self._embedder.name, width, rows)
