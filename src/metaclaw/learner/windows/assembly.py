"""Windows from the settings.

Owns which calendar and which source of idleness are used; refuses to know how they work. Invariant: a calendar is read
only where the settings say so, and from nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from metaclaw.config import Settings
from metaclaw.extras import load_backend
from metaclaw.learner.windows.calendars.watched import WatchedCalendar
from metaclaw.learner.windows.calendars.web import WebCalendar
from metaclaw.learner.windows.conditions import Rules
from metaclaw.learner.windows.idle import UserIdle
from metaclaw.learner.windows.idle_sources import system_sources
from metaclaw.learner.windows.looking import Looking
from metaclaw.learner.windows.presence import Presence
from metaclaw.learner.windows.sleep_hours import SleepHours
from metaclaw.learner.windows.spans import Span

_EXTRA = "scheduler"
_ICS = "metaclaw.learner.windows.calendars.ics"
_GOOGLE = "metaclaw.learner.windows.calendars.google"


def looking_for(settings: Settings, session: aiohttp.ClientSession) -> tuple[Looking, WatchedCalendar | None]:
    """What looks at the conditions, and the calendar in it. Raises ``MissingExtraError`` for a calendar without its
    packages."""
    scheduler = settings.scheduler
    start, end = scheduler.sleep
    calendar = _calendar(settings, session) if scheduler.calendar.enabled else None
    looking = Looking(
        rules=Rules(
            idle_s=60 * scheduler.idle_threshold_minutes,
            min_window_s=60 * scheduler.min_window_minutes,
            resume_after_s=60 * scheduler.resume_after_minutes,
        ),
        sleep=SleepHours(start=start, end=end, zone=scheduler.zone),
        presence=Presence(settings.turns_db),
        idle=UserIdle(system_sources() if scheduler.idle_source == "auto" else ()),
        calendar=calendar,
    )
    return looking, calendar


def google(settings: Settings) -> Any:
    """The module that logs in to Google. Raises ``MissingExtraError``."""
    return load_backend(_GOOGLE, extra=_EXTRA)


def _calendar(settings: Settings, session: aiohttp.ClientSession) -> WatchedCalendar:
    chosen = settings.scheduler.calendar
    if not chosen.url.get_secret_value() and chosen.path is None:
        calendar = google(settings).GoogleCalendar(session, token=settings.calendar_token)
        return WatchedCalendar(calendar.busy, source=calendar.source)
    ics, zone = load_backend(_ICS, extra=_EXTRA), settings.scheduler.zone
    if chosen.path is not None:
        path = settings.home / chosen.path.expanduser()

        async def read_file(since: float, until: float) -> Sequence[Span]:
            return await asyncio.to_thread(lambda: ics.busy_spans([path.read_bytes()], since, until, zone))

        return WatchedCalendar(read_file, source=str(path))
    web = WebCalendar(session, url=chosen.url, username=chosen.username, password=chosen.password)

    async def read_web(since: float, until: float) -> Sequence[Span]:
        texts = await web.texts(since, until)
        return await asyncio.to_thread(ics.busy_spans, texts, since, until, zone)

    return WatchedCalendar(read_web, source=web.source)
