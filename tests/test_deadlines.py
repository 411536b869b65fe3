"""Limits on waiting: as ``asyncio.timeout`` has them, with one timer for all."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from metaclaw.deadlines import Later, Within

pytestmark = pytest.mark.anyio


async def test_who_waits_too_long_is_told_and_nobody_else() -> None:
    has_come = asyncio.Event()

    async def waits() -> str:
        with Within(30):
            await has_come.wait()
        return "in time"

    patient = asyncio.create_task(waits())
    with pytest.raises(TimeoutError), Within(0.001):
        await asyncio.Event().wait()
    has_come.set()
    assert await patient == "in time"


async def test_a_limit_can_be_entered_again_after_it_ran_out() -> None:
    limit = Within(0.001)
    for _ in range(2):
        with pytest.raises(TimeoutError), limit:
            await asyncio.Event().wait()
        with limit:
            await asyncio.sleep(0)


async def test_who_is_cancelled_by_another_is_not_late() -> None:
    has_begun = asyncio.Event()

    async def waits() -> None:
        with Within(30):
            has_begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_late_and_cancelled_at_once_stays_cancelled() -> None:
    has_left = asyncio.Event()

    async def waits() -> None:
        with Within(0.001):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                task.cancel()
                has_left.set()
                raise

    task = asyncio.create_task(waits())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert has_left.is_set()


async def test_what_was_taken_back_is_not_called_and_the_rest_is_in_order() -> None:
    called: list[int] = []
    is_over = asyncio.Event()
    for number in range(5):
        later = Later(0.002, lambda number=number: called.append(number))
        if number in (0, 3):
            later.cancel()
    Later(0.002, is_over.set)
    async with asyncio.timeout(30):
        await is_over.wait()
    assert called == [1, 2, 4]


async def test_the_oldest_of_those_that_are_left_has_the_timer() -> None:
    """The one that the timer was set for is taken back, and others of its length come later."""
    first = Later(0.002, lambda: None)
    await asyncio.sleep(0.001)
    is_over = asyncio.Event()
    Later(0.002, is_over.set)
    first.cancel()
    async with asyncio.timeout(30):
        await is_over.wait()


async def test_what_came_while_the_loop_was_stopped_is_not_late() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        with Within(0.2):
            reading = asyncio.get_running_loop().sock_recv(ours, 9)
            asyncio.get_running_loop().call_soon(_stop, theirs)
            assert await reading == b"an answer"
        with pytest.raises(TimeoutError), Within(0.2):
            await asyncio.get_running_loop().sock_recv(ours, 9)


def _stop(theirs: socket.socket) -> None:
    theirs.send(b"an answer")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:  # as SIGSTOP does it
        pass


def test_loops_do_not_know_each_other() -> None:
    """One after another in a thread, where the first leaves a wait behind, and two in two threads."""

    async def waits() -> None:
        with pytest.raises(TimeoutError), Within(0.003):
            await asyncio.Event().wait()

    async def leaves_one_behind() -> None:
        Later(0.003, lambda: None)

    def several() -> None:
        asyncio.run(leaves_one_behind())
        asyncio.run(waits())
        outcomes.append("late")

    outcomes: list[str] = []
    threads = [threading.Thread(target=several) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes == ["late", "late"]
