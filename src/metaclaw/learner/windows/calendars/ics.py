"""Busy time from iCalendar data (RFC 5545).

Owns which events count; refuses to know where the data came from. Invariant: an event that was cancelled, or is marked
as free, is never busy time, and each occurrence of a recurring one counts as it was changed or moved.

Needs the `scheduler` extra; loaded through ``metaclaw.extras``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import chain
from math import inf, prod
from typing import Any, cast

import recurring_ical_events
from icalendar import Calendar

from metaclaw.errors import ConfigError
from metaclaw.learner.windows.spans import Span, joined

# What the libraries raise for data that makes no sense, and `datetime` for the year 1 or 9999 in another zone.
_BAD_DATA = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
_OFTEN = {"SECONDLY": 86_400, "MINUTELY": 1440, "HOURLY": 24}
_MOST_OCCURRENCES = 100_000  # since its beginning: an hourly one of eleven years, half a second


def busy_spans(texts: Iterable[bytes], since: float, until: float, zone: tzinfo | None) -> list[Span]:
    """When the events of calendars overlap ``since`` to ``until``; times without a zone are meant in ``zone``.

    Raises ``ConfigError`` when one of ``texts`` is no calendar.
    """
    begin, end = datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)
    spans = list[Span]()
    for text in texts:
        try:
            calendars = Calendar.from_ical(text, multiple=True)
            if not calendars:
                raise ValueError("no calendar")
            spans += [found for one in calendars for found in _spans(one, begin, end, zone)]
        except _BAD_DATA as error:
            raise ConfigError(f"it cannot be read as iCalendar ({type(error).__name__})") from None
    return [span for span in joined(spans) if span.end > since and span.start < until]


def _spans(calendar: Calendar, begin: datetime, end: datetime, zone: tzinfo | None) -> list[Span]:
    """Busy time of one calendar. Events that make no sense are left out: the others still say when one is busy."""
    others, series = list[Any](), defaultdict[str, list[Any]](list)
    for one in calendar.subcomponents:
        if one.name != "VEVENT":
            others.append(one)
        elif not _is_left_out(one, end):
            series[str(one.get("UID"))].append(one)
    try:
        return _expanded(calendar, [*others, *chain(*series.values())], begin, end, zone)
    except _BAD_DATA:  # of one of them
        found = list[Span]()
        for events in series.values():
            with suppress(*_BAD_DATA):
                found += _expanded(calendar, [*others, *events], begin, end, zone)
        return found


def _expanded(
    calendar: Calendar, components: list[Any], begin: datetime, end: datetime, zone: tzinfo | None
) -> list[Span]:
    calendar.subcomponents = components
    events = recurring_ical_events.of(calendar, skip_bad_series=True).between(begin, end)
    return [_span(event, zone) for event in events if _is_busy(event)]


def _is_left_out(event: Any, end: datetime) -> bool:
    try:
        return _is_endless(event, end)
    except _BAD_DATA:  # it has no beginning, for one
        return True


def _is_endless(event: Any, end: datetime) -> bool:
    """Whether it could take minutes to work out: anybody may send an invitation to each second since 1970."""
    found = event.get("RRULE", [])
    rules = cast("list[Any]", found if isinstance(found, list) else [found])
    start = event["DTSTART"].dt
    days = max(1, (end.date() - date(start.year, start.month, start.day)).days)
    return days * max(map(_times_a_day, rules), default=0) > _MOST_OCCURRENCES


def _times_a_day(rule: Any) -> float:
    """At most; what never comes to an end is infinite."""
    if any(int(interval) < 1 for interval in rule.get("INTERVAL", [])):
        return inf
    listed = prod(max(1, len(rule.get(part, []))) for part in ("BYHOUR", "BYMINUTE", "BYSECOND"))
    return listed * _OFTEN.get(str(rule.get("FREQ", [""])[0]).upper(), 1)


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
