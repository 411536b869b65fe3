"""Who goes to vLLM next."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from metaclaw.training.samplers.vllm.turns import Turns

pytestmark = pytest.mark.anyio


class Line:
    """Requests that note when they get their turn, and hold it until told."""

    def __init__(self, size: int) -> None:
        self.turns = Turns(size)
        self.order: list[str] = []
        self.running: dict[str, asyncio.Event] = {}

    async def hold(self, name: str, share: str) -> None:
        async with self.turns.turn(share):
            self.order.append(name)
            self.running[name] = asyncio.Event()
            await self.running[name].wait()

    async def end_next(self) -> None:
        name = next(each for each in self.order if not self.running[each].is_set())
        self.running[name].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_flood_of_one_tenant_makes_another_wait_for_one_turn_only():
    line = Line(1)
    tasks = [asyncio.create_task(line.hold(f"flood{number}", "flood")) for number in range(5)]
    await settle()
    tasks += [asyncio.create_task(line.hold(f"small{number}", "small")) for number in range(2)]
    await settle()
    for _ in range(7):
        await line.end_next()
    assert line.order == ["flood0", "flood1", "small0", "flood2", "small1", "flood3", "flood4"]
    await asyncio.gather(*tasks)


async def test_no_more_run_at_once_than_there_is_room_for_and_no_turn_is_lost():
    line = Line(2)
    tasks = [asyncio.create_task(line.hold(str(number), "a")) for number in range(6)]
    await settle()
    assert line.order == ["0", "1"]
    for leaving in (tasks[0], tasks[3]):  # one that runs, one that waits
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
    await settle()
    assert line.order == ["0", "1", "2"]
    line.running["1"].set()
    tasks[4].cancel()  # in the moment in which its turn comes
    await settle()
    assert line.order == ["0", "1", "2", "5"]
    for name in ("2", "5"):
        line.running[name].set()
    await asyncio.wait(tasks)
    async with asyncio.timeout(1), line.turns.turn("b"), line.turns.turn("b"):
        pass
