"""The gateway's own hand on the memory: what is asked and told over HTTP.

Owns the one thread that opens, reads and writes the store; refuses to know requests. Invariant: the event loop never
waits for the file, and nobody is given or changes what is another agent's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from metaclaw.errors import NotFoundError
from metaclaw.memory.asking import Asking
from metaclaw.memory.forgetting import Forgotten, forget
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.times.asked import with_time
from metaclaw.memory.units import MemoryUnit

T = TypeVar("T")


class MemoryDesk:
    """Used on the event loop. Its methods raise ``JournalError`` when the store cannot be used."""

    def __init__(self, path: Path, asking: Asking | None = None) -> None:
        self._path = path
        self._asking = asking
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memory-desk")
        self._store: MemoryStore | None = None  # the thread's own

    async def close(self) -> None:
        """Close the file, once what runs is done."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._store is not None:
            self._store.close()

    async def stats(self, agent: str) -> dict[str, int]:
        """How much an agent remembers."""
        return await self._ask(lambda store: store.stats(agent))

    async def search(self, query: MemoryQuery) -> list[Found]:
        """What fits a question."""
        meaning = None if self._asking is None else await self._asking.meaning(query.text)
        return await self._ask(lambda store: store.search(with_time(query), meaning))

    async def do(self, work: Callable[[MemoryStore], T]) -> T:
        """Something else on the store, which it must not keep. One at a time: what takes long keeps others waiting."""
        return await self._ask(work)

    async def get(self, unit: str, agent: str) -> MemoryUnit:
        """One unit. Raises ``NotFoundError`` also for another agent's."""
        return await self._ask(lambda store: _own(store, unit, agent))

    async def add(self, unit: MemoryUnit, now: float) -> str:
        """Remember a unit; its id, or that of the one that says so already."""
        return (await self._ask(lambda store: store.add([unit], now=now)))[0]

    async def forget(self, unit: str, agent: str, *, now: float) -> Forgotten:
        """Forget a unit. Raises ``NotFoundError`` also for another agent's."""

        def work(store: MemoryStore) -> Forgotten:
            return forget(store, [_own(store, unit, agent).id], why="asked over HTTP", now=now)

        return await self._ask(work)

    async def _ask(self, work: Callable[[MemoryStore], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(self._on_thread, work))

    def _on_thread(self, work: Callable[[MemoryStore], T]) -> T:
        if self._store is None:
            self._store = MemoryStore.open(self._path)
        return work(self._store)


def _own(store: MemoryStore, unit: str, agent: str) -> MemoryUnit:
    found: Collection[MemoryUnit] = store.get([unit])
    for one in found:
        if one.agent == agent:
            return one
    raise NotFoundError(f"agent {agent!r} has no memory {unit[:80]!r}")
