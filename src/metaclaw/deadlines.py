"""Limits on waiting that cost next to nothing as long as nobody is late.

Owns the timers under limits that are set for every turn and every piece of an answer; refuses to know what is waited
for. Invariant: nobody is late before the whole time has passed in which the loop could hear them, and whoever is, is
told by the loop they wait in.

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

# A loop that rings so late was stopped with its process (SIGSTOP, a container that was paused), or slept with its
# machine where the clock of the loop counts that.
_STOPPED_S = 1.0


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
        loop = asyncio.get_running_loop()  # once: each time the system is asked which process this is
        task = self._task = asyncio.current_task(loop)
        assert task is not None
        self._num_cancels = task.cancelling()
        self._is_late = False
        self._queue.add(loop, self, self._ring)

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
        self._queue.add(asyncio.get_running_loop(), self, call)

    def cancel(self) -> None:
        self._queue.drop(self)


class _Queue(threading.local):
    """Waits of one length, the oldest first. A loop has a thread to itself, so each thread has a queue of its own."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits: dict[object, tuple[float, Callable[[], None]]] = {}
        self._has_timer = False
        self._rings_at = 0.0

    def add(self, loop: asyncio.AbstractEventLoop, wait: object, ring: Callable[[], None]) -> None:
        if loop is not self._loop:  # the one before has ended, and with it its timer
            self._loop, self._waits, self._has_timer = loop, {}, False
        at = loop.time() + self._seconds
        self._waits[wait] = at, ring
        if not self._has_timer:
            self._set_timer(loop, at)

    def drop(self, wait: object) -> None:
        self._waits.pop(wait, None)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        self._has_timer = False
        if (now := loop.time()) - self._rings_at > _STOPPED_S:
            # uvloop rings before it reads: every answer would be a silent one, whatever has come meanwhile. They wait
            # anew, for a network may take some seconds too.
            self._waits = {wait: (now + self._seconds, ring) for wait, (_, ring) in self._waits.items()}
        while self._waits:
            wait, (at, ring) = next(iter(self._waits.items()))
            if at > loop.time():
                self._set_timer(loop, at)
                return
            del self._waits[wait]
            ring()

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        self._has_timer, self._rings_at = True, at
        loop.call_at(at, self._ring, loop)


_queue = lru_cache(maxsize=64)(_Queue)  # lengths come from settings: there are few
