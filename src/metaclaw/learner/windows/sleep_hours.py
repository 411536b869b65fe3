"""When the user sleeps.

Owns the way from two times on a clock to moments; refuses to know what is done then. Invariant: each night begins and
ends when the clock on the wall says so, also in the nights when that clock is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

from metaclaw.learner.windows.spans import Span, joined


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepHours:
    """From ``start`` to ``end``, the next morning where that is earlier; the same time twice is no sleep at all.

    ``zone`` is where the user lives; ``None`` is the zone of this machine, whichever that is at the moment.
    """

    start: time
    end: time
    zone: tzinfo | None

    def spans(self, since: float, until: float) -> list[Span]:
        """The nights that overlap the time between two moments, each of them whole."""
        if self.start == self.end:
            return []
        day = datetime.fromtimestamp(since, self.zone).date() - timedelta(days=1)
        last = datetime.fromtimestamp(until, self.zone).date()
        nights = list[Span]()
        while day <= last:
            morning = day if self.start < self.end else day + timedelta(days=1)
            nights.append(
                Span(
                    start=datetime.combine(day, self.start, self.zone).timestamp(),
                    end=datetime.combine(morning, self.end, self.zone).timestamp(),
                )
            )
            day += timedelta(days=1)
        return [night for night in joined(nights) if night.end > since and night.start < until]
