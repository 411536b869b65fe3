"""The index of words, made anew when words take another form.

Owns how far it is; refuses to know the forms. Invariants: it is made in short transactions, newest units first, and
rests as long as it works, so that nobody who reads or writes meanwhile waits for it; where it was ended it goes on; and
it counts as made only when all of it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from metaclaw.memory.store import MemoryStore, told
from metaclaw.memory.word_index import is_index_whole, made_down_to, put_into_index
from metaclaw.retrieval.words import VERSION

_BATCH = 100  # units, about 0.1 s: so long others who write may wait


class Reindexing:
    """Makes the index of ``store``, which nobody else uses, anew."""

    def __init__(self, store: MemoryStore, *, rest: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._store = store
        self._rest = rest

    async def step(self) -> int:
        """Index some units, and rest; how many, 0 when there is nothing left to do. Raises ``JournalError``."""
        start = time.perf_counter()
        number = await asyncio.to_thread(reindex_some, self._store)
        if number:
            await self._rest(time.perf_counter() - start)
        return number


def reindex_some(store: MemoryStore) -> int:
    """Index some units anew; how many, 0 when the index is whole. Blocking, for about 0.1 s."""
    with told("read"):
        if is_index_whole(store.connection):
            return 0
    with store.writing("index"):
        rows = store.connection.execute(
            "SELECT seq, agent, text || ' ' || subject FROM units WHERE seq < ? ORDER BY seq DESC LIMIT ?",
            (made_down_to(store.connection), _BATCH),
        ).fetchall()
        for seq, agent, text in rows:
            put_into_index(store.connection, seq, agent, text)
        if rows:
            down_to = rows[-1][0]
            store.connection.execute("INSERT OR REPLACE INTO index_progress VALUES (?, ?)", (VERSION, down_to))
        else:
            store.connection.execute("DELETE FROM index_progress")
            store.connection.execute("DELETE FROM index_version")
            store.connection.execute("INSERT INTO index_version VALUES (?)", (VERSION,))
    return len(rows)


def reindex(store: MemoryStore) -> int:
    """Make all of the index anew if it is old; of how many units. Blocking, some seconds for 10,000."""
    number = 0
    while done := reindex_some(store):
        number += done
    return number
