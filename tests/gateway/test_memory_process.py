"""A memory in a process of its own: the gateway asks it, and a turn never fails for want of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from metaclaw.errors import UpstreamError
from metaclaw.gateway.memory_process import memory_app
from metaclaw.memory.extraction.elsewhere import asked_readings
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.recall.candidates import About
from metaclaw.recall.remote_memories import RemoteMemories
from tests.fakes.llm import FakeLlm, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway, serving
from tests.gateway.test_access import make
from tests.gateway.test_memory_recall import FACT, QUESTION, ask, forget_all, remember, user

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def two_processes(tmp_path: Path) -> AsyncGenerator[tuple[RunningGateway, FakeLlm]]:
    """A gateway whose memory is another home's, over HTTP."""
    kept = make_settings(tmp_path / "kept")
    async with fake_llm() as llm, serving(memory_app(kept, hosts=frozenset())) as url:
        memory = {"sidecar_url": url, "sidecar_timeout_s": 30}
        async with running_gateway(make_settings(tmp_path / "home", llm_url=llm.url, memory=memory)) as gateway:
            yield gateway, llm


def last_prompt(llm: FakeLlm) -> str:
    return str(llm.requests[-1]["messages"])


async def test_memories_are_recalled_from_the_other_process_and_gone_when_they_are_forgotten_there(
    tmp_path: Path,
) -> None:
    [mine, _, distrusted] = [
        *await remember(tmp_path / "kept", FACT, source="user"),
        *await remember(tmp_path / "kept", f"{FACT}0 for Bob", scope="user", user="bob"),
        *await remember(tmp_path / "kept", f"{FACT}1, says a page", source="tool", trust=0.1),
    ]
    async with two_processes(tmp_path) as (gateway, llm):
        await ask(gateway, user(QUESTION), **{"X-Memory-Scope": "all"})
        told = last_prompt(llm)
        assert (FACT in told, "for Bob" in told, "says a page" in told) == (True, False, False)
        await asyncio.to_thread(forget_all, tmp_path / "kept", [mine, distrusted])
        await ask(gateway, user(QUESTION), {"role": "assistant", "content": "6543."}, user("Thanks"))
        assert "6543 " not in last_prompt(llm)
        assert FACT + "\n" not in last_prompt(llm)
    assert not (tmp_path / "home" / "memory" / "units.db").exists()


async def test_that_a_session_is_done_is_told_where_its_memories_are_kept(tmp_path: Path) -> None:
    def asked() -> list[tuple[str, str | None]]:
        with MemoryStore.open(tmp_path / "kept" / "memory" / "units.db") as store:
            return [(one.agent, one.session) for one in asked_readings(store)]

    async with two_processes(tmp_path) as (gateway, _):
        await ask(gateway, user("Hello."), **{"X-Session-Id": "a", "X-Agent-Id": "ada", "X-Session-Done": "yes"})
        async with asyncio.timeout(30):
            while not (told := await asyncio.to_thread(asked)):  # noqa: ASYNC110 - another process has no event for us
                await asyncio.sleep(0.05)
    assert told == [("ada", "a")]


async def test_the_routes_are_passed_on_for_the_agent_that_a_token_may_be(tmp_path: Path) -> None:
    bound, _ = await asyncio.to_thread(make, tmp_path / "home", "ada", agent="ada")
    async with two_processes(tmp_path) as (gateway, _):
        ada = {"Authorization": f"Bearer {bound}"}

        async def sent(method: str, path: str, **more: Any) -> tuple[int, Any]:
            more.setdefault("headers", gateway.headers)
            async with gateway.http.request(method, f"{gateway.url}/v1/memory{path}", **more) as answer:
                return answer.status, await answer.json()

        status, stored = await sent("POST", "/store", json={"text": "Ada's key is under the mat."}, headers=ada)
        assert (status, stored["is_stored"]) == (200, True)
        assert len((await sent("GET", "/search?q=key+mat", headers=ada))[1]["results"]) == 1
        assert (await sent("GET", "/search?q=key+mat"))[1]["results"] == []
        assert (await sent("GET", f"/{stored['id']}"))[0] == 404
        for path in ("/operator-report", "/forgotten"):
            assert (await sent("GET", path, headers=ada))[0] == 403
            assert (await sent("GET", path))[0] == 200
        assert (await sent("POST", "/served", json={"ids": [stored["id"]]}, headers=ada))[0] == 403
        assert (await sent("POST", "/store", json={"text": ""}))[0] == 400
        assert (await sent("DELETE", f"/{stored['id']}", headers=ada))[1]["forgotten"] == [stored["id"]]


async def test_without_the_other_process_turns_go_on_and_it_is_counted(tmp_path: Path) -> None:
    memory = {"sidecar_url": "http://127.0.0.1:9", "sidecar_timeout_s": 30}
    async with (
        fake_llm() as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url, memory=memory)) as gateway,
    ):
        await ask(gateway, user(QUESTION))
        async with gateway.http.get(f"{gateway.url}/metrics", headers=gateway.headers) as answer:
            assert "metaclaw_memory_failures_total 1.0" in await answer.text()
        async with gateway.http.get(f"{gateway.url}/v1/memory/search?q=x", headers=gateway.headers) as answer:
            assert answer.status == 503
            assert "metaclaw memory serve" in await answer.text()


class _Slow:
    """A memory that may not answer."""

    is_there = False
    num_asked = 0

    async def search(self, query: MemoryQuery) -> list[Found]:
        self.num_asked += 1
        if not self.is_there:
            raise UpstreamError("it did not answer in time")
        return []

    async def served(self, ids: Collection[str], *, min_trust: float) -> frozenset[str]:
        return frozenset(ids)

    async def forgotten(self) -> frozenset[str]:
        return frozenset()


async def test_a_memory_that_does_not_answer_costs_one_turn_its_time_and_is_asked_again_later() -> None:
    service, now = _Slow(), [0.0]
    memories = RemoteMemories(service, min_score=0.5, clock=lambda: now[0])

    async def ask_at(second: float) -> int:
        now[0] = second
        await memories.found("Where is the key?", About(agent="main", session="s"), 0.0)
        return service.num_asked

    assert [await ask_at(second) for second in (0, 1, 4.9, 5.1, 6)] == [1, 1, 1, 2, 2]
    assert await memories.served(["m-1"]) == frozenset()  # nobody looks, and it was never seen
    assert memories.num_failures == 6
    service.is_there = True
    assert [await ask_at(second) for second in (7, 10.2, 10.3)] == [2, 3, 4]
    assert await memories.served(["m-1"]) == {"m-1"}


async def test_a_wrong_token_for_the_other_process_is_named_and_is_not_the_clients_fault(tmp_path: Path) -> None:
    kept = make_settings(tmp_path / "kept", memory={"sidecar_api_key": "its-own-token"})
    async with serving(memory_app(kept, hosts=frozenset())) as url:
        settings = make_settings(tmp_path / "home", memory={"sidecar_url": url, "sidecar_timeout_s": 30})
        async with (
            running_gateway(settings) as gateway,
            gateway.http.get(f"{gateway.url}/v1/memory/stats", headers=gateway.headers) as answer,
        ):
            assert answer.status == 503
            assert "memory.sidecar_api_key" in await answer.text()


async def test_whoever_asks_as_of_the_older_memory_is_told_where_it_is(tmp_path: Path) -> None:
    async with (
        serving(memory_app(make_settings(tmp_path), hosts=frozenset())) as url,
        aiohttp.ClientSession() as http,
        http.post(f"{url}/retrieve", json={"query": "tea"}) as answer,
    ):
        assert answer.status == 404
        assert "below /v1/memory" in await answer.text()


async def test_the_process_answers_nobody_without_its_token(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, memory={"sidecar_api_key": "its-own-token"})
    async with serving(memory_app(settings, hosts=frozenset())) as url, running_gateway(settings) as gateway:
        for headers, status in (({}, 401), (gateway.headers, 401), ({"Authorization": "Bearer its-own-token"}, 200)):
            async with gateway.http.get(f"{url}/v1/memory/stats", headers=headers) as answer:
                assert answer.status == status


def test_the_gateways_own_token_goes_to_no_other_machine(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"memory\.sidecar_api_key is missing"):
        make_settings(tmp_path, memory={"sidecar_url": "http://memory.example.org:19823"})
