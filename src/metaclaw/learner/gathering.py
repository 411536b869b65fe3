"""Many calls, some at once.

Owns the number that runs at a time and the end of the others; refuses to know what is called. Invariant: no call
outlives the one who asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def gathered(at_once: int, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """All results in order; the first failure, or being cancelled, ends the others."""
    room = asyncio.Semaphore(at_once)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with room:
            return await call()

    tasks = [asyncio.create_task(one(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
