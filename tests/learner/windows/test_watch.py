"""Training in windows: an update is stopped when the user comes back, and goes on in the next window."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.errors import BackendError, JournalError
from metaclaw.learner.outcomes import Outcome, Rejected, Waiting
from metaclaw.learner.windows.conditions import Verdict
from metaclaw.learner.windows.state_file import read_state
from metaclaw.learner.windows.watch import Windows

pytestmark = pytest.mark.anyio

DONE = Rejected(update_id=1, reason="measured")


def verdict(*, is_open: bool, why: str = "it is late", closes_at: float | None = None) -> Verdict:
    return Verdict(at=0.0, is_open=is_open, why=why, conditions=(), closes_at=closes_at, next_at=None, idle_at=None)


@dataclass
class Scripted:
    """Conditions that are as they were last set; ``events`` is what comes with each look."""

    is_open: bool = True
    closes_at: float | None = None
    before_look: Callable[[], object] = lambda: None
    asked: list[bool] = field(default_factory=list)

    async def look(self, *, was_open: bool) -> Verdict:
        self.before_look()
        self.asked.append(was_open)
        why = "these are sleep hours" if self.is_open else "the agent was asked something 0 s ago"
        return verdict(is_open=self.is_open, why=why, closes_at=self.closes_at)


def windows(tmp_path, conditions: Scripted, **options) -> Windows:
    return Windows(conditions=conditions, state_file=tmp_path / "state.json", look_s=0.001, **options)


async def endless(stopped: list[str]) -> Outcome:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        stopped.append(str(error))
        raise
    return DONE


async def ends_after(looks: int) -> Outcome:
    for _ in range(looks):
        await asyncio.sleep(0.001)
    return DONE


async def test_an_update_that_ends_in_its_window_is_left_alone(tmp_path):
    one = windows(tmp_path, Scripted())
    assert await one.is_open()
    assert await one.run("main", ends_after(20)) == DONE
    assert one.state == "updating", "nobody has looked since"
    await one.step()
    assert one.state == "window_open"


async def test_attempts_that_find_too_little_are_no_updates(tmp_path, caplog):
    """Each was logged and written as one, twice a second all night, and `scheduler status` said "updating"."""
    one = Windows(conditions=Scripted(), state_file=tmp_path / "state.json", look_s=60.0)
    caplog.set_level("INFO")
    for _ in range(3):
        assert await one.is_open()
        assert await one.run("main", ends_after(1)) == DONE
    assert [record.getMessage() for record in caplog.records] == [
        "training: idle -> window_open: these are sleep hours"
    ]
    told = read_state(tmp_path / "state.json")
    assert told is not None
    assert told.state == "window_open"


async def test_the_return_of_the_user_stops_training_at_the_next_look_and_says_why(tmp_path):
    stopped, conditions = list[str](), Scripted()
    one = windows(tmp_path, conditions)
    assert await one.is_open()
    looks = list[str]()

    def look() -> None:
        looks.append(one.state)
        conditions.is_open = len(looks) < 5

    conditions.before_look = look
    outcome = await one.run("main", endless(stopped))
    assert outcome == Waiting(reason="training was stopped: the agent was asked something 0 s ago")
    assert stopped == ["the window closed: the agent was asked something 0 s ago"]
    assert len(looks) <= 6, "one look is enough"
    assert not await one.is_open()
    assert one.state == "idle"
    conditions.before_look, conditions.is_open = lambda: None, True
    await one.step()
    assert await one.is_open(), "it goes on in the next window"


async def test_an_update_that_was_asked_for_needs_no_window(tmp_path):
    one = windows(tmp_path, Scripted(is_open=False))
    assert not await one.is_open()
    assert await one.run("main", ends_after(20), is_asked=True) == DONE
    told = read_state(tmp_path / "state.json")
    assert told is not None
    assert (told.state, told.agent, told.is_asked) == ("updating", "main", True)


async def test_what_was_finished_before_it_could_be_stopped_counts(tmp_path):
    conditions = Scripted()
    one = windows(tmp_path, conditions)
    await one.is_open()

    async def commits() -> Outcome:
        conditions.is_open = False
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return DONE
        return Waiting(reason="never")

    assert await one.run("main", commits()) == DONE


async def test_its_failure_is_the_callers_and_a_look_that_fails_stops_it(tmp_path):
    async def fails() -> Outcome:
        raise BackendError("down")

    stopped, conditions = list[str](), Scripted()
    one = windows(tmp_path, conditions)
    with pytest.raises(BackendError, match="down"):
        await one.run("main", fails())

    def look() -> None:
        if len(conditions.asked) > 4:
            raise JournalError("turns.db is gone")

    conditions.before_look = look
    with pytest.raises(JournalError):
        await one.run("main", endless(stopped))
    assert len(stopped) == 1


async def test_the_end_of_the_learner_ends_the_update_first(tmp_path):
    stopped = list[str]()
    one = windows(tmp_path, Scripted())
    running = asyncio.create_task(one.run("main", endless(stopped)))
    while one.state != "updating":  # noqa: ASYNC110 - until it runs
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(stopped) == 1


@pytest.mark.parametrize(("closes_at", "was_open"), [(None, True), (200.0, True), (50.0, False)])
async def test_after_a_restart_what_was_updating_is_a_window_if_it_still_is_the_same(tmp_path, closes_at, was_open):
    first = windows(tmp_path, Scripted(closes_at=closes_at), clock=lambda: 10.0)
    running = asyncio.create_task(first.run("main", endless([])))
    while first.state != "updating":  # noqa: ASYNC110 - until it runs
        await asyncio.sleep(0)
    while (told := read_state(tmp_path / "state.json")) is None or told.state != "updating":  # noqa: ASYNC110
        await asyncio.sleep(0)
    conditions = Scripted()
    second = windows(tmp_path, conditions, clock=lambda: 100.0)
    assert second.state == ("window_open" if was_open else "idle")
    await second.step()
    assert (conditions.asked, second.state) == ([was_open], "window_open")
    running.cancel()
    await asyncio.wait({running})


async def test_a_state_that_cannot_be_read_or_written_stops_nothing(tmp_path):
    (tmp_path / "state.json").mkdir()
    one = windows(tmp_path, Scripted())
    assert await one.run("main", ends_after(1)) == DONE
    (tmp_path / "old.json").write_text('{"state": "idle_wait"}')
    assert read_state(tmp_path / "old.json") is None


@dataclass
class Day:
    """A clock, a condition that changes with it, and what was seen of the two."""

    opens: list[bool]
    hour: int = 0
    running: bool = False
    ran_outside: int = 0

    def look(self, conditions: Scripted) -> None:
        conditions.is_open = self.opens[min(self.hour, len(self.opens) - 1)]
        self.hour += 1


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 6))
@settings(max_examples=25)
async def test_however_windows_come_and_go_no_update_outlives_the_look_that_found_none(
    tmp_path_factory, opens: list[bool], length: int
):
    conditions, day = Scripted(), Day(opens)
    conditions.before_look = lambda: day.look(conditions)
    one = windows(tmp_path_factory.mktemp("day"), conditions)
    cancelled_at = list[int]()

    async def work() -> Outcome:
        begun = day.hour
        try:
            while day.hour - begun < length:  # noqa: ASYNC110 - the clock is a number
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled_at.append(day.hour)
            raise
        return DONE

    while day.hour < len(opens):
        if await one.is_open():
            before = day.hour
            outcome = await one.run("main", work())
            seen = opens[before : day.hour]
            assert isinstance(outcome, Waiting) == bool(cancelled_at)
            if cancelled_at:
                assert seen[-1] is False
                assert all(seen[:-1]), "no look that found a window stopped it, and none that found none did not"
            cancelled_at.clear()
        else:
            await one.step()
    conditions.before_look = lambda: None
    await one.step()
    assert one.state in ("idle", "window_open")
