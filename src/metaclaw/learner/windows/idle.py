"""For how long the user is idle, by whoever can tell.

Owns the choice of the source and how often it is asked; refuses to know how a system counts. Invariant: nobody waits
longer than ``PATIENCE_S`` for an answer; one that is late is the last one known, as long as that is not old.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metaclaw.learner.windows.idle_sources import IdleSource

_log = logging.getLogger(__name__)

PATIENCE_S = 0.3
_NOT_SOONER_S = 0.5
_LOOK_AGAIN_S = 60.0  # where nothing could tell: somebody may log in later
_OLD_S = 30.0

REQUESTS = "requests to the agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idleness:
    """``seconds`` is ``None`` where it is unknown."""

    seconds: float | None
    source: str


class UserIdle:
    """Asks the first source that can tell; without one, the requests of the agent's user are what is seen of him."""

    def __init__(self, sources: Sequence[IdleSource], *, clock: Callable[[], float] = time.time) -> None:
        self._sources = sources
        self._clock = clock
        self._chosen: IdleSource | None = None
        self._asking: asyncio.Task[float | None] | None = None
        self._known: tuple[float, float | None] | None = None  # when, and how long
        self._has_looked = not sources

    async def look(self, quiet_s: float) -> Idleness:
        """How long it is now. ``quiet_s`` is how long the agent was asked nothing."""
        now = self._clock()
        pause_s = _NOT_SOONER_S if self._chosen else _LOOK_AGAIN_S
        if self._sources and (self._known is None or not 0 <= now - self._known[0] < pause_s):
            await self._ask(now)
        if self._has_looked and self._chosen is None:
            return Idleness(seconds=quiet_s, source=REQUESTS)
        name = self._chosen.name if self._chosen else "not asked yet"
        if self._known is None or now - self._known[0] > _OLD_S:
            return Idleness(seconds=None, source=name)
        return Idleness(seconds=self._known[1], source=name)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    async def _ask(self, now: float) -> None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._first_answer(now))
        done, _ = await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        if done:
            asking, self._asking = self._asking, None
            self._known = (now, asking.result())

    async def _first_answer(self, now: float) -> float | None:
        if self._chosen is not None and (idle_s := await self._chosen.idle_s(now)) is not None:
            return idle_s
        for source in self._sources:
            if (idle_s := await source.idle_s(now)) is not None:
                if source is not self._chosen:
                    _log.info("whether the user is idle is known from: %s", source.name)
                self._chosen, self._has_looked = source, True
                return idle_s
        if self._chosen is not None or not self._has_looked:
            _log.info("nothing tells here whether somebody sits at this machine: what counts is %s", REQUESTS)
        self._chosen, self._has_looked = None, True
        return None
