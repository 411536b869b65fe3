"""Calling what may block, or never come back.

Owns one daemon thread a call; refuses to know what is called. Invariant: the caller waits no longer than its timeout,
and a call that hangs keeps neither the event loop nor the end of the process waiting (a pool's threads are joined at
exit).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


async def call_in_thread(function: Callable[[], T], *, timeout_s: float | None) -> T:
    """``function()`` in a thread of its own; raises ``TimeoutError`` after ``timeout_s`` and lets it run out alone."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[Callable[[], T]] = loop.create_future()

    def deliver(outcome: Callable[[], T]) -> None:
        if not finished.done():
            finished.set_result(outcome)

    def work() -> None:
        outcome = _outcome(function)
        with contextlib.suppress(RuntimeError):  # the loop ended first
            loop.call_soon_threadsafe(deliver, outcome)

    threading.Thread(target=work, name=f"call-{getattr(function, '__name__', 'anonymous')}", daemon=True).start()
    async with asyncio.timeout(timeout_s):
        outcome = await finished
    return outcome()


def _outcome(function: Callable[[], T]) -> Callable[[], T]:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - carried over to the caller, who is in another thread
        return _raising(error)
    return lambda: result


def _raising(error: BaseException) -> Callable[[], NoReturn]:
    def reraise() -> NoReturn:
        raise error

    return reraise
