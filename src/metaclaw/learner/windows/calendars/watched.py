"""A calendar that is read now and then.

Owns how often, and what is known in between; refuses to know what kind of calendar it is. Invariant: nobody ever waits
for it; one that cannot be read is unknown after ``_KEPT_S``, which is said once and opens no window.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from metaclaw.errors import MetaClawError
from metaclaw.learner.windows.conditions import HORIZON_S
from metaclaw.learner.windows.spans import Span

_log = logging.getLogger(__name__)

_EVERY_S = 600.0
_KEPT_S = 1800.0  # what was read before goes on counting for so long while nothing new can be
_BACK_S = 86_400.0

Read = Callable[[float, float], Awaitable[Sequence[Span]]]


class WatchedCalendar:
    """Reads by ``read(since, until)``."""

    def __init__(self, read: Read, *, source: str, clock: Callable[[], float] = time.time) -> None:
        self._read = read
        self.source = source
        self._clock = clock
        self._known: Sequence[Span] | None = None
        self._known_at = self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._is_failing = False

    def busy(self, now: float) -> Sequence[Span] | None:
        """What is known now; ``None`` is nothing. Begins to read where that is due."""
        if not 0 <= now - self._tried_at < _EVERY_S and (self._reading is None or self._reading.done()):
            self._tried_at = now
            self._reading = asyncio.create_task(self.refresh())
            self._reading.add_done_callback(_say_fault)
        return self._known if 0 <= now - self._known_at < _KEPT_S else None

    async def refresh(self) -> None:
        """Read it now. What fails is logged, the first time."""
        now = self._clock()
        self._tried_at = now
        try:
            self._known = await self._read(now - _BACK_S, now + HORIZON_S)
        except (MetaClawError, OSError) as error:
            if not self._is_failing:
                _log.warning("the calendar is unknown and opens no window: %s", error)
            self._is_failing = True
            return
        if self._is_failing:
            _log.info("the calendar can be read again")
        self._is_failing, self._known_at = False, now

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})


def _say_fault(reading: asyncio.Task[None]) -> None:
    """Of a reading that ended as nobody foresaw."""
    if not reading.cancelled() and (fault := reading.exception()) is not None:
        _log.warning("the calendar is unknown and opens no window", exc_info=fault)
