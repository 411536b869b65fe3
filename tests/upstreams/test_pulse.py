"""A cloud that says nothing is given up in seconds; one that only takes long is waited for."""

from __future__ import annotations

import asyncio

import pytest

from metaclaw.errors import BackendError, UpstreamError
from metaclaw.upstreams.pulse import Patience, Pulse

pytestmark = pytest.mark.anyio

SOON = Patience(look_every_s=0.01, look_s=0.01, max_misses=2, rest_s=15.0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def never() -> str:
    return await asyncio.get_running_loop().create_future()


async def test_as_long_as_the_cloud_answers_a_call_may_take_its_time():
    looks, answer = 0, asyncio.get_running_loop().create_future()

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise BackendError("one failure is none")
        if looks == 4:
            answer.set_result("at last")

    async def call() -> str:
        return await answer

    pulse = Pulse("the cloud", look, clock=Clock(), patience=SOON)
    assert await pulse.during(call()) == "at last"
    await pulse.close()


async def test_a_silent_cloud_is_given_up_left_alone_for_a_while_and_asked_again():
    clock = Clock()
    pulse = Pulse("the cloud", never, clock=clock, patience=SOON)
    with pytest.raises(UpstreamError, match="the cloud does not answer") as caught:
        await pulse.during(never())
    assert (caught.value.status, caught.value.retry_after_s) == (503, 15.0)

    async def at_once() -> str:
        return "here"

    with pytest.raises(UpstreamError):
        await pulse.during(at_once())
    clock.now += 15.1
    assert await pulse.during(at_once()) == "here"
    await pulse.close()


async def test_what_a_call_raises_is_raised():
    async def fail() -> str:
        raise BackendError("refused")

    pulse = Pulse("the cloud", never, clock=Clock(), patience=SOON)
    with pytest.raises(BackendError, match="refused"):
        await pulse.during(fail())
    await pulse.close()


async def test_one_that_cannot_be_reached_for_long_is_left_alone_too():
    """A machine that is unplugged refuses nothing: each turn would wait for a connection of its own."""
    clock = Clock()

    async def unreachable(seconds: float) -> str:
        clock.now += seconds
        raise UpstreamError("could not be reached")

    pulse = Pulse("the server", never, clock=clock, patience=Patience())
    for _ in range(2):  # refused at once: the next may ask at once
        with pytest.raises(UpstreamError, match="could not be reached"):
            await pulse.during(unreachable(0.1))
    with pytest.raises(UpstreamError, match="could not be reached"):
        await pulse.during(unreachable(10.0))
    with pytest.raises(UpstreamError, match="the server does not answer"):
        await pulse.during(unreachable(10.0))
    await pulse.close()


async def test_a_call_that_takes_too_long_by_its_own_count_says_so_itself():
    async def give_up() -> str:
        async with asyncio.timeout(0):
            return await never()

    pulse = Pulse("the server", never, clock=Clock(), patience=Patience())
    with pytest.raises(TimeoutError):
        await pulse.during(give_up())
    await pulse.close()


async def test_a_look_that_another_turn_begins_in_the_same_moment_is_not_taken_for_ones_own():
    """Of turns that look together some woke when the next look was under way, and took that for silence."""
    num_turns, answer = 40, asyncio.get_running_loop().create_future()

    async def look() -> None:
        await asyncio.sleep(0)

    async def call() -> str:
        return await answer

    pulse = Pulse("the cloud", look, clock=Clock(), patience=Patience(look_every_s=0.005, look_s=5.0, max_misses=1))
    waiting: list[asyncio.Task[str]] = []
    for _ in range(num_turns):
        waiting.append(asyncio.ensure_future(pulse.during(call())))
        await asyncio.sleep(0.0002)
    await asyncio.sleep(0.3)
    answer.set_result("at last")
    assert await asyncio.gather(*waiting) == ["at last"] * num_turns
    await pulse.close()
