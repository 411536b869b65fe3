"""When a window is open: sleep hours over nights and clock changes, and the rule over all that is known."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.learner.windows.conditions import HORIZON_S, Facts, Rules, weigh
from metaclaw.learner.windows.sleep_hours import SleepHours
from metaclaw.learner.windows.spans import Span, joined, span_at

MINUTE, HOUR = 60.0, 3600.0
VIENNA = ZoneInfo("Europe/Vienna")
NIGHT = SleepHours(start=time(23), end=time(7), zone=VIENNA)
RULES = Rules(idle_s=30 * MINUTE, min_window_s=15 * MINUTE, resume_after_s=5 * MINUTE)


def at(text: str, zone: ZoneInfo | None = VIENNA) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def facts(now: float, *, sleep=(), busy=(), idle_s=0.0, quiet_s=math.inf) -> Facts:
    return Facts(
        now=now, sleep=sleep, busy=busy, idle_s=idle_s, quiet_s=quiet_s, idle_source="a test", calendar_source="a test"
    )


def night_at(now: float, **known) -> Facts:
    return facts(now, sleep=NIGHT.spans(now, now + HORIZON_S), **known)


@pytest.mark.parametrize(
    ("moment", "sleeps"),
    [
        ("2026-11-25 22:59:59", False), ("2026-11-25 23:00", True), ("2026-11-26 00:00", True),
        ("2026-11-26 06:59:59", True), ("2026-11-26 07:00", False), ("2026-11-26 12:00", False),
    ],
)  # fmt: skip
def test_sleep_hours_cross_midnight(moment: str, sleeps: bool):
    assert (span_at(NIGHT.spans(at(moment), at(moment) + 1), at(moment)) is not None) == sleeps
    assert weigh(night_at(at(moment)), RULES, was_open=True).is_open == sleeps


@pytest.mark.parametrize(
    ("evening", "hours"), [("2026-03-28 23:00", 7), ("2026-10-24 23:00", 9), ("2026-05-01 23:00", 8)]
)
def test_the_night_of_a_clock_change_is_as_long_as_it_is(evening: str, hours: int):
    (night,) = NIGHT.spans(at(evening), at(evening) + HOUR)
    assert night == Span(start=at(evening), end=at(evening) + hours * HOUR)


def test_sleep_hours_that_a_clock_change_swallows_are_none():
    gone = SleepHours(start=time(2, 30), end=time(3, 10), zone=VIENNA)
    day = (at("2026-03-29 00:00"), at("2026-03-29 12:00"))
    assert gone.spans(*day) == []
    never = SleepHours(start=time(8), end=time(8), zone=VIENNA)
    assert never.spans(*day) == []


ZONES = st.sampled_from(["Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "UTC"])
CLOCK = st.times(max_value=time(23, 59)).map(lambda when: when.replace(second=0, microsecond=0))
YEAR = st.floats(at("2026-01-01", UTC), at("2027-01-01", UTC))  # pyright: ignore[reportArgumentType]


@given(ZONES, CLOCK, CLOCK, YEAR)
@settings(max_examples=60)
def test_somebody_sleeps_when_the_clock_on_the_wall_says_so(name: str, start: time, end: time, now: float):
    zone = ZoneInfo(name)
    wall = datetime.fromtimestamp(now, zone).time()
    expected = start <= wall < end if start <= end else wall >= start or wall < end
    changes_today = len({datetime.fromtimestamp(now + hours * HOUR, zone).utcoffset() for hours in (-30, 0, 30)}) > 1
    if not changes_today:  # within the hour that is there twice, or not at all, a clock says nothing
        assert (span_at(SleepHours(start=start, end=end, zone=zone).spans(now, now + 1), now) is not None) == expected


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: Span(start=pair[0], end=pair[1])))


@given(SPANS, st.integers(0, 50))
@settings(max_examples=60)
def test_joined_spans_are_the_same_time_in_order_and_apart(spans: list[Span], moment: int):
    found = joined(spans)
    assert (span_at(found, moment) is not None) == any(span.start <= moment < span.end for span in spans)
    assert all(one.end < other.start for one, other in pairwise(found))


def test_any_of_sleep_idleness_and_a_meeting_opens_a_window():
    noon = at("2026-11-25 12:00")
    assert not weigh(night_at(noon), RULES, was_open=False).is_open
    assert weigh(night_at(noon, idle_s=30 * MINUTE), RULES, was_open=False).is_open
    meeting = Span(start=noon - MINUTE, end=noon + HOUR)
    verdict = weigh(night_at(noon, busy=[meeting]), RULES, was_open=False)
    assert (verdict.is_open, verdict.closes_at, verdict.why) == (True, meeting.end, "the calendar is busy")


def test_what_is_unknown_opens_nothing_and_is_said():
    verdict = weigh(night_at(at("2026-11-25 12:00"), busy=None, idle_s=None), RULES, was_open=True)
    assert not verdict.is_open
    assert [condition.is_met for condition in verdict.conditions] == [False, None, None, True]
    assert "calendar is unknown" in verdict.why
    assert verdict.idle_at is None


def test_too_little_time_opens_no_window_but_one_that_is_open_is_used_to_its_end():
    """PITFALLS R13: min_window_minutes was never read."""
    late = at("2026-11-26 06:50")
    assert weigh(night_at(late), RULES, was_open=True).is_open
    verdict = weigh(night_at(late), RULES, was_open=False)
    assert not verdict.is_open
    assert verdict.why == "these are sleep hours, but only 10 min are left of 15 min"
    assert verdict.next_at == at("2026-11-26 23:00")
    meeting = Span(start=late, end=late + HOUR)
    assert weigh(night_at(late, busy=[meeting]), RULES, was_open=False).is_open, (
        "a meeting after it makes it long enough"
    )


def test_a_request_closes_every_window_until_it_was_quiet_again():
    midnight = at("2026-11-26 00:00")
    for quiet_s, is_open in ((0.0, False), (299.0, False), (300.0, True)):
        assert weigh(night_at(midnight, quiet_s=quiet_s, idle_s=HOUR), RULES, was_open=True).is_open == is_open
    verdict = weigh(night_at(midnight, quiet_s=60.0), RULES, was_open=True)
    assert verdict.why == "the agent was asked something 60 s ago"
    assert verdict.next_at == midnight + 4 * MINUTE


def test_the_next_window_is_the_next_night_or_when_nobody_touches_anything():
    noon = at("2026-11-25 12:00")
    verdict = weigh(night_at(noon, idle_s=10 * MINUTE), RULES, was_open=False)
    assert verdict.next_at == at("2026-11-25 23:00")
    assert verdict.idle_at == noon + 20 * MINUTE
    meetings = [Span(start=noon + HOUR, end=noon + HOUR + MINUTE), Span(start=noon + 2 * HOUR, end=noon + 3 * HOUR)]
    assert weigh(night_at(noon, busy=meetings), RULES, was_open=False).next_at == noon + 2 * HOUR
