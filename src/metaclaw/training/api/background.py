"""Work that outlives the request that started it.

Owns its lifetime; refuses to know what it does. Invariant: when the block ends nothing of it still runs, and one
task that fails by a bug is logged and takes no other task with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_log = logging.getLogger(__name__)


class Background:
    """Starts tasks inside one group."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work``; it is cancelled when the group's block ends."""
        task = self._group.create_task(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()


@asynccontextmanager
async def background() -> AsyncGenerator[Background]:
    """A place for tasks; leaving it cancels them and waits until they have ended."""
    async with asyncio.TaskGroup() as group:
        tasks = Background(group)
        try:
            yield tasks
        finally:
            tasks.cancel()


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001 - the background boundary
        _log.exception("a background task ended by a bug")
