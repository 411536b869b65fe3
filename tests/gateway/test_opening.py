"""When a turn is recorded as open: while its model works, and before anything of the answer is passed on."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from metaclaw.chat.openai_chat import parse_request
from metaclaw.gateway.app import open_deps
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.opening import Opening
from metaclaw.gateway.proxy import Incoming
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import make_settings, read_turns, running_gateway

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]
CALLER = Caller(agent="main", session="s", kind="main")


@dataclass(slots=True)
class Sought:
    """A sender whom the journal has to be asked for; it answers when it is told to."""

    may_be_found: asyncio.Event = field(default_factory=asyncio.Event)
    num_asked: int = 0
    agent: str = "main"

    def caller(self) -> Coroutine[Any, Any, Caller]:
        self.num_asked += 1
        return self._found()

    async def _found(self) -> Caller:
        await self.may_be_found.wait()
        return CALLER


class Known:
    """A sender whom nobody has to look for."""

    agent = "main"

    def caller(self) -> Caller:
        return CALLER


async def rounds(number: int) -> None:
    """Let the loop go round; nothing here waits for anything else."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_turn_is_recorded_as_open_without_anybody_waiting_for_it() -> None:
    recorded: list[Caller] = []
    opening = Opening(Known(), recorded.append)
    opening.soon()
    assert recorded == []
    await rounds(3)
    assert recorded == [CALLER]
    assert await opening.done() == CALLER
    assert recorded == [CALLER]


async def test_a_turn_whose_caller_is_looked_for_is_recorded_when_he_is_found_and_once() -> None:
    recorded: list[Caller] = []
    sender = Sought()
    opening = Opening(sender, recorded.append)
    opening.soon()
    await rounds(3)
    assert recorded == []
    sender.may_be_found.set()
    await rounds(3)
    assert recorded == [CALLER]
    await opening.done()
    assert (recorded, sender.num_asked) == ([CALLER], 1)


async def test_who_is_cancelled_while_he_waits_for_the_caller_does_not_end_the_search() -> None:
    sender = Sought()
    opening = Opening(sender, lambda _: None)
    waiting = asyncio.create_task(opening.identify())
    await rounds(2)
    waiting.cancel()
    await asyncio.wait([waiting])
    sender.may_be_found.set()
    assert await opening.identify() == CALLER


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_turn_is_open_in_the_journal_before_a_byte_of_its_answer_is_out(
    tmp_path: Path, is_stream: bool
) -> None:
    async with (
        fake_llm(lambda _: Answer(hold_after=1)) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        posting = asyncio.ensure_future(begin(gateway.post({"model": "m", "messages": HELLO, "stream": is_stream})))
        await llm.is_held.wait()
        if is_stream:
            await posting
        [turn] = await gateway.turns()
        assert turn.state == "open"
        llm.go_on.set()
        response = await posting
        await response.read()
        [turn] = await gateway.turns()
        assert (turn.state, turn.id) == ("done", response.headers["X-MetaClaw-Turn"])


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_turn_that_is_over_keeps_nothing_until_garbage_is_collected(tmp_path: Path, is_stream: bool) -> None:
    """Each was a cycle: some hundred requests lay about, however long, and the loop stood still to find them."""
    body = {"model": "m", "messages": HELLO, "stream": is_stream}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        gc.disable()
        try:
            for _ in range(3):
                async with gateway.post(body) as response:
                    await response.read()
            await gateway.turns()
            await rounds(3)
            # Looked for in one expression: a name for one would keep it, and with it what it has.
            assert sum(type(it) is Incoming for it in gc.get_objects()) == 0
        finally:
            gc.enable()


async def test_a_turn_that_is_given_up_while_its_caller_is_looked_for_is_not_opened_afterwards(tmp_path: Path) -> None:
    request = parse_request({"messages": HELLO})
    sender = Sought()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()  # the client stays
        return {}

    incoming = Incoming(
        turn_id="turn-1",
        request=request,
        raw=json.dumps(request.body).encode(),
        sender=sender,
        headers={},
        errors="openai",
        receive=receive,
    )
    async with (
        fake_llm() as llm,
        open_deps(make_settings(tmp_path, llm_url=llm.url, skills={"enabled": False})) as deps,
    ):
        responding = asyncio.create_task(deps.proxy.respond(incoming))
        while not (sender.num_asked or responding.done()):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
        for _ in range(2):  # once while it is looked for, once while the turn is closed
            responding.cancel()
            await rounds(3)
        await asyncio.wait([responding])
        assert responding.cancelled()
        sender.may_be_found.set()
        await rounds(3)
        await deps.recorder.drain(60)
        assert deps.recorder.num_open == 0
    assert await asyncio.to_thread(read_turns, tmp_path) == []


async def begin(request: Any) -> Any:
    return await request
