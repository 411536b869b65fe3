"""What a token may use."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.errors import BudgetError, RateLimitError
from metaclaw.gateway.limits import Meter
from metaclaw.journal.access_store import Limits

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def finish(meter: Meter, now: float, *, tokens: int, usd: float) -> None:
    meter.release()
    meter.charge(now, tokens=tokens, usd=usd)


def refusal(meter: Meter, now: float) -> tuple[str, float]:
    with pytest.raises((BudgetError, RateLimitError)) as caught:
        meter.admit(now)
    return caught.value.code, caught.value.retry_after_s


@given(
    limit=st.integers(1, 5),
    steps=st.lists(st.tuples(st.floats(0, 40, allow_nan=False), st.booleans()), max_size=60),
)
def test_no_minute_holds_more_requests_than_the_limit_and_a_restart_forgets_none(
    limit: int, steps: list[tuple[float, bool]]
):
    limits = Limits(requests_per_minute=limit)
    meter, now = Meter(limits), NOON
    admitted: list[float] = []
    for pause, restarts in steps:
        now += pause
        if restarts:
            meter = Meter(limits, meter.usage())
        try:
            meter.admit(now)
        except RateLimitError as error:
            later = now + error.retry_after_s
            assert now < later <= now + 60
            assert sum(later - 60 < moment <= later for moment in admitted) < limit, "it may be tried then"
        else:
            admitted.append(now)
    for moment in admitted:
        assert sum(moment - 60 < other <= moment for other in admitted) <= limit


def test_a_day_of_tokens_ends_at_midnight_and_a_month_of_money_with_the_month():
    meter = Meter(Limits(tokens_per_day=100, usd_per_month=1.0))
    meter.admit(NOON)
    finish(meter, NOON, tokens=100, usd=1.0)
    assert refusal(meter, NOON) == ("insufficient_quota", 12 * 3600)
    assert refusal(Meter(Limits(usd_per_month=1.0), meter.usage()), NOON + 60) == ("insufficient_quota", 12 * 3600 - 60)
    meter.admit(NOON + 12 * 3600)
    assert meter.usage().day_tokens == 0
    assert meter.usage().month_usd == 0


def test_a_day_within_a_month_renews_tokens_and_not_money():
    first = datetime(2026, 11, 3, 12, tzinfo=UTC).timestamp()
    meter = Meter(Limits(tokens_per_day=10, usd_per_month=1.0))
    meter.admit(first)
    finish(meter, first, tokens=10, usd=0.5)
    meter.admit(first + 86_400)
    finish(meter, first + 86_400, tokens=1, usd=0.5)
    assert (meter.usage().day_tokens, meter.usage().month_tokens) == (1, 11)
    code, retry_after_s = refusal(meter, first + 86_400)
    assert (code, retry_after_s) == ("insufficient_quota", (30 - 4) * 86_400 + 12 * 3600)


def test_a_clock_that_is_set_back_neither_opens_a_window_anew_nor_blocks_for_an_hour():
    meter = Meter(Limits(tokens_per_day=10, requests_per_minute=1))
    meter.admit(NOON)
    finish(meter, NOON, tokens=9, usd=0.0)
    meter.admit(NOON - 86_400)
    finish(meter, NOON - 86_400, tokens=1, usd=0.0)
    assert meter.usage().day_tokens == 10


def test_a_clock_that_was_a_year_ahead_makes_nobody_wait_for_that_year():
    limits = Limits(tokens_per_day=10, usd_per_month=1.0)
    meter = Meter(limits)
    meter.admit(NOON + 365 * 86_400)
    finish(meter, NOON + 365 * 86_400, tokens=10, usd=1.0)
    for same in (meter, Meter(limits, meter.usage())):
        assert refusal(same, NOON) == ("insufficient_quota", 12 * 3600), "what was used stays counted"
        same.admit(NOON + 12 * 3600)  # the first of December


def test_so_many_run_at_once_and_no_more():
    meter = Meter(Limits(max_concurrent=2))
    meter.admit(NOON)
    meter.admit(NOON)
    assert refusal(meter, NOON) == ("rate_limit_exceeded", 1.0)
    finish(meter, NOON, tokens=1, usd=0.0)
    meter.admit(NOON)


def test_what_is_refused_counts_for_nothing():
    meter = Meter(Limits(max_concurrent=1, requests_per_minute=9))
    meter.admit(NOON)
    before = meter.usage()
    refusal(meter, NOON)
    assert meter.usage() == before
    assert meter.num_running == 1
