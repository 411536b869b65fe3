"""Which turns are one exchange: what is judged together, and rewarded together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
MORNING: Json = {"role": "user", "content": "good morning"}
RESULT: Json = {"role": "tool", "tool_call_id": "c", "content": "a.txt"}


def said(text: str) -> Json:
    return {"role": "assistant", "content": text}


def called(path: str) -> Json:
    function = {"name": "ls", "arguments": f'{{"path": "{path}"}}'}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}


def call_again(messages: list[Json]) -> list[Json]:
    """As clients send it back: with an id of their own."""
    *before, call = messages
    return [*before, {**call, "tool_calls": [{**call["tool_calls"][0], "id": "rewritten"}]}, RESULT]


async def send(gateway: RunningGateway, *messages: Json, **headers: str) -> None:
    async with gateway.post({"messages": list(messages)}, **headers) as response:
        assert response.status == 200


def scripted(*answers: Json) -> Any:
    """A model that gives these answers, one after the other."""
    remaining = iter(answers)
    return fake_llm(lambda _: Answer(message=next(remaining)))


async def exchanges(gateway: RunningGateway) -> list[str]:
    return [turn.exchange for turn in await gateway.turns()]


def settings(home: Path, llm: FakeLlm) -> Any:
    return make_settings(home, llm_url=llm.url)


async def test_the_same_prompt_again_is_another_exchange(tmp_path: Path) -> None:
    """A cron job, several samples of one prompt, a regenerated answer: each answer has a reward of its own."""
    async with fake_llm() as llm, running_gateway(settings(tmp_path, llm)) as gateway:
        session = {"X-Session-Id": "s"}
        await send(gateway, MORNING, **session)
        await send(gateway, MORNING, **session)
        await asyncio.gather(*(send(gateway, MORNING, **session) for _ in range(3)))
        turns = await gateway.turns()
    assert len({turn.exchange for turn in turns}) == 5
    assert len({turn.session for turn in turns}) == 1


async def test_the_same_word_after_another_answer_is_another_exchange(tmp_path: Path) -> None:
    """A client with a sliding window sends as many messages each time."""
    go_on = {"role": "user", "content": "continue"}
    windows = [(MORNING, said("one"), go_on), (go_on, said("two"), go_on)]
    async with fake_llm() as llm, running_gateway(settings(tmp_path, llm)) as gateway:
        for window in windows:
            await send(gateway, *window, **{"X-Session-Id": "s"})
            await send(gateway, *window, called("x"), RESULT, **{"X-Session-Id": "s"})
        first, first_loop, second, second_loop = await exchanges(gateway)
    assert (first, second) == (first_loop, second_loop)
    assert first != second


async def test_each_of_two_equal_prompts_keeps_its_own_tool_loop_through_a_restart(tmp_path: Path) -> None:
    a, b = called("a"), called("b")
    async with scripted(a, b, called("a2"), said("b done"), said("a done")) as llm:
        async with running_gateway(settings(tmp_path, llm)) as gateway:
            await send(gateway, MORNING)
            await send(gateway, MORNING)
        async with running_gateway(settings(tmp_path, llm)) as gateway:
            await send(gateway, *call_again([MORNING, a]))
            await send(gateway, *call_again([MORNING, b]))
            await send(gateway, *call_again([*call_again([MORNING, a]), called("a2")]))
            of_a, of_b, *rest = await exchanges(gateway)
    assert of_a != of_b
    assert rest == [of_a, of_b, of_a]


async def test_two_loops_that_began_with_equal_calls_are_not_mixed(tmp_path: Path) -> None:
    async with (
        scripted(called("."), called("."), said("one"), said("two")) as llm,
        running_gateway(settings(tmp_path, llm)) as gateway,
    ):
        await send(gateway, MORNING)
        await send(gateway, MORNING)
        await send(gateway, MORNING, called("."), RESULT)
        await send(gateway, MORNING, called("."), RESULT)
        first, second, third, fourth = await exchanges(gateway)
    assert {first, second} == {third, fourth}
    assert first != second


async def test_a_loop_goes_on_in_its_exchange_when_the_client_rewrites_or_retries(tmp_path: Path) -> None:
    async with (
        scripted(called("x"), said("one"), said("two")) as llm,
        running_gateway(settings(tmp_path, llm)) as gateway,
    ):
        session = {"X-Session-Id": "s"}
        await send(gateway, MORNING, **session)
        await send(gateway, MORNING, said("what I made of it"), RESULT, **session)
        await send(gateway, MORNING, called("x"), RESULT, **session)
        found = await exchanges(gateway)
    assert len(set(found)) == 1


async def test_a_loop_whose_every_request_has_a_trace_of_its_own_is_one_exchange(tmp_path: Path) -> None:
    """As HTTP clients under tracing send it when nobody opened a span around the loop."""

    def traced(number: int) -> Json:
        return {"X-Session-Id": "s", "traceparent": f"00-{number:032x}-{1:016x}-01"}

    loop = [MORNING, called("a"), RESULT]
    async with (
        scripted(called("a"), called("b"), said("done"), called("a"), said("done")) as llm,
        running_gateway(settings(tmp_path, llm)) as gateway,
    ):
        await send(gateway, MORNING, **traced(1))
        await send(gateway, *loop, **traced(2))
        await send(gateway, *loop, called("b"), RESULT, **traced(3))
        after = [*loop, said("done"), {"role": "user", "content": "again"}]
        await send(gateway, *after, **traced(4))
        await send(gateway, *after, called("a"), RESULT, **traced(5))
        first, second, third, next_one, last = await exchanges(gateway)
    assert first == second == third
    assert next_one == last != first


async def test_a_side_turn_takes_no_part_in_a_loop(tmp_path: Path) -> None:
    async with (
        scripted(called("x"), called("x"), said("done")) as llm,
        running_gateway(settings(tmp_path, llm)) as gateway,
    ):
        await send(gateway, MORNING)
        await send(gateway, MORNING, **{"X-Turn-Type": "side"})
        await send(gateway, MORNING, called("x"), RESULT)
        main, side, loop = await exchanges(gateway)
    assert main == loop != side
