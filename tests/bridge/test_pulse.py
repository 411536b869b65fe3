"""A cloud that says nothing is given up in seconds; one that only takes long is waited for."""

from __future__ import annotations

import asyncio

import pytest

from metaclaw.bridge.pulse import Patience, Pulse
from metaclaw.errors import BackendError, UpstreamError

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
