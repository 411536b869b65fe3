"""Busy time from iCalendar data (RFC 5545).

Owns which events count; refuses to know where the data came from. Invariant: an event that was cancelled, or is marked
as free, is never busy time, and each occurrence of a recurring one counts as it was changed or moved.

Needs the `scheduler` extra; loaded through ``metaclaw.extras``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

import recurring_ical_events
from icalendar import Calendar

from metaclaw.errors import ConfigError
from metaclaw.learner.windows.spans import Span, joined


def busy_spans(texts: Iterable[bytes], since: float, until: float, zone: tzinfo | None) -> list[Span]:
    """When the events of calendars overlap ``since`` to ``until``; times without a zone are meant in ``zone``.

    Raises ``ConfigError`` when one of ``texts`` is no calendar.
    """
    begin, end = datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)
    spans = list[Span]()
    for text in texts:
        try:  # the libraries raise whatever bad data makes them raise
            calendars = Calendar.from_ical(text, multiple=True)
            if not calendars:
                raise ValueError("no calendar")
            events = [event for one in calendars for event in _events(one, begin, end)]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ConfigError(f"it cannot be read as iCalendar ({type(error).__name__})") from None
        spans += [_span(event, zone) for event in events if _is_busy(event)]
    return [span for span in joined(spans) if span.end > since and span.start < until]


def _events(calendar: Calendar, begin: datetime, end: datetime) -> list[Any]:
    # One event that makes no sense is left out: the others of the calendar still say when its owner is busy.
    calendar.subcomponents = [one for one in calendar.subcomponents if one.name != "VEVENT" or "DTSTART" in one]
    return list(recurring_ical_events.of(calendar, skip_bad_series=True).between(begin, end))


def _is_busy(event: Any) -> bool:
    return str(event.get("STATUS", "")).upper() != "CANCELLED" and str(event.get("TRANSP", "")).upper() != "TRANSPARENT"


def _span(event: Any, zone: tzinfo | None) -> Span:
    start = event["DTSTART"].dt
    end = event["DTEND"].dt if "DTEND" in event else start + _length(event, start)
    return Span(start=_moment(start, zone), end=_moment(end, zone))


def _length(event: Any, start: date) -> timedelta:
    if "DURATION" in event:
        return event["DURATION"].dt
    return timedelta(0) if isinstance(start, datetime) else timedelta(days=1)


def _moment(when: date, zone: tzinfo | None) -> float:
    if not isinstance(when, datetime):
        when = datetime.combine(when, time())
    return (when if when.tzinfo else when.replace(tzinfo=zone)).timestamp()
