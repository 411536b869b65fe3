"""Whose request goes to vLLM next.

Owns the waiting line; refuses to know what a request is. Invariant: no more than ``size`` are with vLLM at once (it
serves whoever came first, so what waits must wait here), and those who wait take turns by share, not by arrival.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turns:
    """Admits up to ``size`` holders; the next is taken from the share that has waited for its turn longest."""

    def __init__(self, size: int) -> None:
        self._num_free = size
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by share, the next one first

    @asynccontextmanager
    async def turn(self, share: str) -> AsyncGenerator[None]:
        """Wait for a turn and keep it for as long as the block runs."""
        await self._enter(share)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, share: str) -> None:
        if self._num_free:  # then nobody waits
            self._num_free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(share, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # the turn came together with the end
            raise

    def _leave(self) -> None:
        while self._waiting:
            share = next(iter(self._waiting))
            line = self._waiting.pop(share)
            place = line.popleft()
            if line:
                self._waiting[share] = line  # to the end of the round
            if not place.done():
                place.set_result(None)
                return
        self._num_free += 1
