"""Finding out how things stand: sleep hours, the user's idleness, his calendar, requests to the agent.

Owns asking each of them; refuses to know what follows from it. Invariant: a look takes a fraction of a second, whatever
hangs; what it could not find out in time is unknown or as it was last known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from metaclaw.learner.windows.conditions import HORIZON_S, Facts, Rules, Verdict, weigh
from metaclaw.learner.windows.idle import UserIdle
from metaclaw.learner.windows.presence import Presence
from metaclaw.learner.windows.sleep_hours import SleepHours
from metaclaw.learner.windows.spans import Span


class Calendar(Protocol):
    """When the user is busy, as far as it is known; never waits for anybody."""

    @property
    def source(self) -> str: ...

    def busy(self, now: float) -> Sequence[Span] | None: ...

    async def close(self) -> None: ...


class Looking:
    """All conditions of one user."""

    def __init__(
        self,
        *,
        rules: Rules,
        sleep: SleepHours,
        presence: Presence,
        idle: UserIdle,
        calendar: Calendar | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._sleep = sleep
        self._presence = presence
        self._idle = idle
        self._calendar = calendar
        self._clock = clock

    async def look(self, *, was_open: bool) -> Verdict:
        """Decide as things stand now. Raises ``JournalError``."""
        _follow_the_zone()
        quiet_s = await asyncio.to_thread(self._presence.quiet_s, self._clock())
        idleness = await self._idle.look(quiet_s)
        now = self._clock()
        calendar = self._calendar
        facts = Facts(
            now=now,
            sleep=self._sleep.spans(now, now + HORIZON_S),
            busy=calendar.busy(now) if calendar else None,
            idle_s=idleness.seconds,
            quiet_s=quiet_s,
            idle_source=idleness.source,
            calendar_source=calendar.source if calendar else "",
        )
        return weigh(facts, self._rules, was_open=was_open)

    async def close(self) -> None:
        """Let go of what is open."""
        await self._idle.close()
        if self._calendar is not None:
            await self._calendar.close()
        self._presence.close()


def _follow_the_zone() -> None:
    # A program keeps the zone that it began in, also when the machine is carried to another one.
    if hasattr(time, "tzset"):
        time.tzset()
