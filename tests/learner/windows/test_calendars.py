"""Calendars: what is busy time, over files, addresses, CalDAV and Google, and what one that fails is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientSession, web
from pydantic import SecretStr

from metaclaw.config import CalendarSettings, SchedulerSettings, Settings
from metaclaw.errors import ConfigError, UpstreamError
from metaclaw.learner.windows.assembly import looking_for
from metaclaw.learner.windows.calendars.google import GoogleCalendar
from metaclaw.learner.windows.calendars.ics import busy_spans
from metaclaw.learner.windows.calendars.watched import WatchedCalendar
from metaclaw.learner.windows.calendars.web import WebCalendar
from metaclaw.learner.windows.spans import Span

pytestmark = pytest.mark.anyio

VIENNA = ZoneInfo("Europe/Vienna")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=VIENNA).timestamp()


def span(start: str, end: str) -> Span:
    return Span(start=at(start), end=at(end))


def event(start: str, end: str = "", *more: str, uid: str = "1") -> str:
    lines = [f"UID:{uid}", f"DTSTART{start}", *([f"DTEND{end}"] if end else []), *more]
    return "\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT", ""])


def calendar(*events: str) -> bytes:
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{''.join(events)}END:VCALENDAR\r\n".encode()


def busy(*events: str, since: str, until: str) -> list[Span]:
    return busy_spans([calendar(*events)], at(since), at(until), VIENNA)


def test_a_weekly_meeting_stays_at_nine_when_clocks_change():
    weekly = event(";TZID=Europe/Vienna:20260323T090000", ";TZID=Europe/Vienna:20260323T093000", "RRULE:FREQ=WEEKLY")
    found = busy(weekly, since="2026-03-23", until="2026-04-01")
    assert found == [span("2026-03-23 09:00", "2026-03-23 09:30"), span("2026-03-30 09:00", "2026-03-30 09:30")]


def test_an_occurrence_that_was_moved_or_left_out_is_followed():
    daily = event(
        ":20260504T080000Z", ":20260504T090000Z", "RRULE:FREQ=DAILY;COUNT=4", "EXDATE:20260506T080000Z", uid="d"
    )
    moved = event(":20260505T120000Z", ":20260505T130000Z", "RECURRENCE-ID:20260505T080000Z", uid="d")
    found = busy(daily, moved, since="2026-05-04", until="2026-05-09")
    assert found == [
        span("2026-05-04 10:00", "2026-05-04 11:00"), span("2026-05-05 14:00", "2026-05-05 15:00"),
        span("2026-05-07 10:00", "2026-05-07 11:00"),
    ]  # fmt: skip


def test_what_was_cancelled_or_is_marked_as_free_is_not_busy():
    free = event(":20260504T080000Z", ":20260504T090000Z", "TRANSP:TRANSPARENT", uid="f")
    cancelled = event(":20260504T080000Z", ":20260504T090000Z", "STATUS:CANCELLED", uid="c")
    assert busy(free, cancelled, since="2026-05-04", until="2026-05-05") == []


def test_whole_days_floating_times_and_durations_are_meant_where_the_user_is():
    holiday, call = event(";VALUE=DATE:20260504", uid="h"), event(":20260506T100000", "", "DURATION:PT45M", uid="t")
    assert busy(holiday, call, since="2026-05-03", until="2026-05-08") == [
        span("2026-05-04", "2026-05-05"), span("2026-05-06 10:00", "2026-05-06 10:45"),
    ]  # fmt: skip


def test_what_is_no_calendar_is_refused_and_an_event_that_makes_no_sense_left_out():
    for text in (b"", b"<html>", calendar("BEGIN:VEVENT\r\nUID:1\r\n")):
        with pytest.raises(ConfigError, match="cannot be read as iCalendar"):
            busy_spans([text], 0, 1, VIENNA)
    sound = event(":20260504T080000Z", ":20260504T090000Z", uid="s")
    found = busy(
        event(":never"), sound, "BEGIN:VEVENT\r\nUID:n\r\nEND:VEVENT\r\n", since="2026-05-04", until="2026-05-05"
    )
    assert found == [span("2026-05-04 10:00", "2026-05-04 11:00")]


@pytest.mark.parametrize(
    "bad",
    [
        event(":20260504T070000Z", ":99991231T235959Z", uid="b"),
        event(":00010101T000000", ":20270101T000000", uid="b"),
        event(":20260504T070000Z", "", "DURATION:P99999999999D", uid="b"),
        event(":20260504T070000Z", "", "DURATION:PT1M", "RRULE:FREQ=DAILY;INTERVAL=0", uid="b"),
        event(":19700101T000000Z", "", "DURATION:PT1S", "RRULE:FREQ=SECONDLY", uid="b"),
        event(":20260101T000000Z", "", "DURATION:PT1S", "RRULE:FREQ=MINUTELY", uid="b"),
        event(":19700101T000000Z", "", "DURATION:PT1S", "RRULE:FREQ=HOURLY;BYSECOND=1,2,3,4", uid="b"),
        event(":20260504T070000Z", "", "DURATION:PT1S", "RRULE:FREQ=SOMETIMES", uid="b"),
    ],
    ids=["year 9999", "year 1", "endless", "never on", "each second", "each minute", "each second of an hour", "odd"],
)
def test_an_invitation_that_never_ends_hides_no_other_event_and_holds_nobody_up(bad: str):
    """Anybody may send one. A rule that never gets on kept a processor busy for ever."""
    sound = event(":20260504T080000Z", ":20260504T090000Z", uid="s")
    began = time.monotonic()
    found = busy(bad, sound, since="2026-05-04", until="2026-05-05")
    assert span("2026-05-04 10:00", "2026-05-04 11:00") in found
    assert time.monotonic() - began < 5


def test_what_recurs_often_for_some_years_is_followed():
    hourly = event(":20230101T000000Z", "", "DURATION:PT10M", "RRULE:FREQ=HOURLY")
    assert len(busy(hourly, since="2026-05-04", until="2026-05-05")) == 24


@asynccontextmanager
async def served(handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/cal/"
    finally:
        await runner.cleanup()


def web_calendar(session: ClientSession, url: str, username: str = "") -> WebCalendar:
    return WebCalendar(session, url=SecretStr(url), username=username, password=SecretStr("p"))


async def test_an_address_with_a_file_is_read_as_one():
    async def answer(request: web.Request) -> web.Response:
        assert request.method == "GET"
        return web.Response(body=b"\xef\xbb\xbf" + calendar())

    async with served(answer) as url, ClientSession() as session:
        assert await web_calendar(session, url).texts(0, 1) == [b"\xef\xbb\xbf" + calendar()]


@pytest.mark.parametrize("get_status", [200, 405, 501])
async def test_a_caldav_collection_is_asked_for_the_events_of_the_time_alone(get_status: int):
    asked = list[str]()

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Basic YW5uOnA="
        asked.append(request.method)
        if request.method == "GET":
            return web.Response(text="<html>a list</html>", status=get_status)
        body = await request.text()
        assert request.headers["Depth"] == "1"
        assert '<c:time-range start="19700101T000000Z" end="19700102T000000Z"/>' in body
        data = "".join(
            "<d:response><d:href>/1.ics</d:href><d:propstat><d:prop><c:calendar-data>"
            f"{calendar(event(f':1970010{day}T080000Z', f':1970010{day}T090000Z')).decode()}"
            "</c:calendar-data></d:prop></d:propstat></d:response>"
            for day in (1, 2)
        )
        names = 'xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"'
        return web.Response(status=207, text=f"<d:multistatus {names}>{data}</d:multistatus>")

    async with served(answer) as url, ClientSession() as session:
        one = web_calendar(session, url, "ann")
        texts = await one.texts(0, 86_400)
        assert busy_spans(texts, 0, 200_000, VIENNA) == [
            Span(start=28_800, end=32_400),
            Span(start=115_200, end=118_800),
        ]
        await one.texts(0, 86_400)
    assert asked == ["GET", "REPORT", "REPORT"], "what it is has been settled"


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_an_address_that_fails_says_so_without_its_text(status: int):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with served(answer) as url, ClientSession() as session:
        with pytest.raises(UpstreamError, match=str(status)) as caught:
            await web_calendar(session, url).texts(0, 1)
    assert url not in str(caught.value)


async def test_google_is_asked_for_busy_times_alone(tmp_path):
    token = tmp_path / "token.json"
    facts = {
        "token": "t-1",
        "refresh_token": "r",
        "client_id": "c",
        "client_secret": "s",
        "expiry": "2099-01-01T00:00:00",
    }
    token.write_text(json.dumps(facts))
    seen = list[object]()

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers["Authorization"], await request.json()))
        times = [{"start": "1970-01-01T01:00:00Z", "end": "1970-01-01T02:00:00Z"}]
        return web.json_response({"calendars": {"primary": {"busy": times}}})

    async with served(answer) as url, ClientSession() as session:
        one = GoogleCalendar(session, token=token, url=url)
        assert await one.busy(0, 86_400) == [Span(start=3600, end=7200)]
        with pytest.raises(ConfigError, match="metaclaw scheduler login"):
            await GoogleCalendar(session, token=tmp_path / "none.json", url=url).busy(0, 1)
        token.write_text("{}")
        with pytest.raises(ConfigError, match="metaclaw scheduler login"):
            await one.busy(0, 1)
    query = {
        "timeMin": "1970-01-01T00:00:00+00:00",
        "timeMax": "1970-01-02T00:00:00+00:00",
        "items": [{"id": "primary"}],
    }
    assert seen == [("Bearer t-1", query)]


async def test_a_calendar_that_fails_is_unknown_said_once_and_asked_again(caplog):
    caplog.set_level("INFO")
    now, answers = [0.0], list[object]([[Span(start=0, end=1)], *[UpstreamError("down", status=502)] * 5, []])

    async def read(since: float, until: float):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    one = WatchedCalendar(read, source="x", clock=lambda: now[0])
    known = list[object]()
    for minute in range(0, 61):
        now[0] = minute * 60.0
        one.busy(now[0])
        await asyncio.sleep(0)
        known.append(one.busy(now[0]))
    assert known[0] == known[29] == [Span(start=0, end=1)], "what was read before counts for half an hour"
    assert known[30] == known[59] is None
    assert known[60] == []
    assert caplog.text.count("the calendar is unknown") == 1
    assert caplog.text.count("can be read again") == 1
    await one.close()


async def test_a_calendar_that_fails_as_nobody_foresaw_is_said_asked_again_and_ends_quietly(caplog):
    now, answers = [0.0], list[object]([RuntimeError("a defect"), [], RuntimeError("another")])

    async def read(since: float, until: float):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    one = WatchedCalendar(read, source="x", clock=lambda: now[0])
    for expected in (None, [], []):
        one.busy(now[0])
        await asyncio.sleep(0.01)
        assert one.busy(now[0]) == expected
        now[0] += 700
    assert "a defect" in caplog.text
    await one.close()


async def test_nothing_is_read_that_was_not_switched_on(tmp_path):
    """PITFALLS R6: the calendar was never read; here it is not where it is off."""
    off = SchedulerSettings(calendar=CalendarSettings(path=tmp_path / "a.ics"))
    async with ClientSession() as session:
        looking, found = looking_for(Settings(home=tmp_path, scheduler=off), session)
        assert found is None
        assert (await looking.look(was_open=False)).conditions[2].says == "no calendar is read"
        await looking.close()
