"""Limits on waiting that cost next to nothing as long as nobody is late.

Owns the timers under limits that are set for every turn and every piece of an answer; refuses to know what is waited
for. Invariant: nobody is late before the whole time has passed, and whoever is, is told by the loop they wait in.

A timer of the loop for each wait would be made and given up again hundreds of times in an answer, at several
microseconds and, in uvloop, a round of the loop each. All waits of one length run out in the order in which they
began, so they share one timer, which is set anew for the oldest when it rings.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType


class Within:
    """``with Within(seconds):`` raises ``TimeoutError`` where the task in it waits for longer, as ``asyncio.timeout``.

    It can be entered again and again, by one task at a time.
    """

    __slots__ = ("_is_late", "_num_cancels", "_queue", "_task", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._queue = _queue(seconds)
        self._task: asyncio.Task[object] | None = None
        self._num_cancels = 0
        self._is_late = False

    def __enter__(self) -> None:
        task = self._task = asyncio.current_task()
        assert task is not None
        self._num_cancels = task.cancelling()
        self._is_late = False
        self._queue.add(self, self._ring)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queue.drop(self)
        task, self._task = self._task, None
        if not self._is_late or task is None:
            return
        # Somebody else may have cancelled the task as well: then it stays cancelled.
        if task.uncancel() <= self._num_cancels and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _ring(self) -> None:
        self._is_late = True
        if self._task is not None:
            self._task.cancel()


class Later:
    """``call`` is called in the running loop after ``seconds``, unless ``cancel`` is before."""

    __slots__ = ("_queue",)

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._queue = _queue(seconds)
        self._queue.add(self, call)

    def cancel(self) -> None:
        self._queue.drop(self)


class _Queue(threading.local):
    """Waits of one length, the oldest first. A loop has a thread to itself, so each thread has a queue of its own."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits: dict[object, tuple[float, Callable[[], None]]] = {}
        self._has_timer = False

    def add(self, wait: object, ring: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the one before has ended, and with it its timer
            self._loop, self._waits, self._has_timer = loop, {}, False
        at = loop.time() + self._seconds
        self._waits[wait] = at, ring
        if not self._has_timer:
            self._has_timer = True
            loop.call_at(at, self._ring, loop)

    def drop(self, wait: object) -> None:
        self._waits.pop(wait, None)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        self._has_timer = False
        while self._waits:
            wait, (at, ring) = next(iter(self._waits.items()))
            if at > loop.time():
                self._has_timer = True
                loop.call_at(at, self._ring, loop)
                return
            del self._waits[wait]
            ring()


_queue = lru_cache(maxsize=64)(_Queue)  # lengths come from settings: there are few
