"""Agents with settings of their own behind one gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from metaclaw.config import Settings
from metaclaw.errors import ConfigError
from metaclaw.gateway.agent_routers import AgentRouters
from metaclaw.skills.skill import Skill, render_skill
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

KEY = "training-key"
HELLO = {"model": "metaclaw", "messages": [{"role": "user", "content": "how do I take notes?"}]}


async def ask(gateway: RunningGateway, agent: str, **more: Any) -> tuple[int, Any]:
    async with gateway.post({**HELLO, **more}, **{"X-Agent-Id": agent}) as answer:
        return answer.status, await answer.json()


def said(answer: tuple[int, Any]) -> str:
    return answer[1]["choices"][0]["message"]["content"]


def settings_for(home: Path, policy_url: str, llm_url: str, **sections: Any) -> Settings:
    rl = {"model": "fake-base", "remote_url": policy_url.removesuffix("/v1"), "remote_api_key": KEY}
    return make_settings(home, llm_url=llm_url, rl=rl, **sections)


async def test_one_request_of_two_agents_at_once_reaches_the_policy_and_the_upstream(tmp_path: Path) -> None:
    held = Answer(text="policy", hold_after=0)
    async with (
        fake_llm(script=lambda _: held, api_key=KEY) as policy,
        fake_llm(script=lambda _: Answer(text="upstream")) as llm,
    ):
        settings = settings_for(tmp_path, policy.url, llm.url, agents={"research": {"mode": "rl"}})
        async with running_gateway(settings) as gateway:
            research = asyncio.create_task(ask(gateway, "research", stream=False))
            await policy.is_held.wait()  # both run at the same moment
            assert said(await ask(gateway, "assistant")) == "upstream"
            policy.go_on.set()
            assert said(await research) == "policy"
            turns = {turn.agent: turn.upstream for turn in await gateway.turns()}
            async with gateway.http.get(
                f"{gateway.url}/v1/models", headers={**gateway.headers, "X-Agent-Id": "research"}
            ) as listed:
                assert (await listed.json())["data"][0]["policy"] == "research@0"
    assert turns == {"research": "policy", "assistant": "fake"}
    assert (len(policy.requests), len(llm.requests)) == (1, 1)


async def test_an_agent_with_a_model_of_its_own_is_sent_nowhere_else(tmp_path: Path) -> None:
    async with fake_llm(script=lambda _: Answer(text="own")) as own, fake_llm() as llm:
        agents = {"writer": {"llm": {"api_base": own.url, "model_id": "writers-model"}}}
        async with running_gateway(make_settings(tmp_path, llm_url=llm.url, agents=agents)) as gateway:
            assert said(await ask(gateway, "writer")) == "own"
            assert said(await ask(gateway, "main")) != "own"
            own.script = lambda _: Answer(status=500)
            status, _ = await ask(gateway, "writer")
    assert status >= 500
    assert own.requests[0]["model"] == "writers-model"
    assert len(llm.requests) == 1


@pytest.mark.parametrize(("path", "where"), [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic")])
async def test_an_agent_that_is_not_listed_is_refused_in_the_clients_dialect(
    tmp_path: Path, path: str, where: str
) -> None:
    async with fake_llm() as llm:
        agents = {"allow_unknown": False, "known": {}}
        async with running_gateway(make_settings(tmp_path, llm_url=llm.url, agents=agents)) as gateway:
            body = {**HELLO, "max_tokens": 5}
            async with gateway.post(body, f"/agents/stranger{path}") as refused:
                status, error = refused.status, await refused.json()
            for agent in ("known", "main"):
                assert (await ask(gateway, agent))[0] == 200
            turns = await gateway.turns()
    assert status == 403
    assert ("type" in error) == (where == "anthropic")
    assert "agents.allow_unknown" in error["error"]["message"]
    assert {turn.agent for turn in turns} == {"known", "main"}


async def test_an_agent_that_is_not_listed_is_refused_at_every_door(tmp_path: Path) -> None:
    """PITFALLS B8: agents that nobody knew were made by being named."""
    doors = [("GET", "/v1/models"), ("POST", "/v1/messages/count_tokens"), ("POST", "/v1/feedback")]
    doors += [("GET", "/v1/memory/search?q=x"), ("POST", "/v1/memory/store"), ("DELETE", "/v1/memory/m-1")]
    agents = {"allow_unknown": False, "known": {}}
    async with running_gateway(make_settings(tmp_path, agents=agents)) as gateway:
        for method, path in doors:
            asked: Any = {"headers": gateway.headers, "json": {}}
            async with gateway.http.request(method, f"{gateway.url}/agents/stranger{path}", **asked) as answer:
                assert (answer.status, "agents.allow_unknown" in await answer.text()) == (403, True), path
            async with gateway.http.request(method, f"{gateway.url}/agents/known{path}", **asked) as answer:
                assert answer.status != 403, path


async def test_an_agent_is_held_to_its_limits_whoever_asks_and_after_a_restart(tmp_path: Path) -> None:
    async with fake_llm() as llm:
        agents = {"writer": {"limits": {"requests_per_minute": 2}}}
        settings = make_settings(tmp_path, llm_url=llm.url, agents=agents)
        async with running_gateway(settings) as gateway:
            statuses = [(await ask(gateway, "writer"))[0] for _ in range(3)]
            assert (await ask(gateway, "main"))[0] == 200
        async with running_gateway(settings) as gateway:
            again, error = await ask(gateway, "writer")
    assert statuses == [200, 200, 429]
    assert again == 429
    assert "the agent 'writer' may make 2 requests a minute" in error["error"]["message"]


async def test_an_agents_skills_come_from_its_own_folder_and_from_no_other_of_its_name(tmp_path: Path) -> None:
    def put(folder: Path, body: str) -> None:
        folder.mkdir(parents=True)
        text = render_skill(Skill(name="notes", description="How to take notes", body=body))
        (folder / "SKILL.md").write_text(text)

    await asyncio.to_thread(put, tmp_path / "elsewhere" / "notes", "Write with a pencil.")
    await asyncio.to_thread(put, tmp_path / "skills" / "writer" / "notes", "Write in the old place.")
    async with fake_llm() as llm:
        agents = {"writer": {"skills_dir": "elsewhere"}}
        async with running_gateway(make_settings(tmp_path, llm_url=llm.url, agents=agents)) as gateway:
            await ask(gateway, "writer")
            await ask(gateway, "main")
    writers, mains = map(str, llm.requests)
    assert "pencil" in writers
    assert "old place" not in writers
    assert "pencil" not in mains


async def test_other_models_folders_of_skills_and_retention_count_without_a_restart(tmp_path: Path) -> None:
    def put(folder: str, body: str) -> None:
        (tmp_path / folder / "notes").mkdir(parents=True)
        text = render_skill(Skill(name="notes", description="How to take notes", body=body))
        (tmp_path / folder / "notes" / "SKILL.md").write_text(text)

    await asyncio.to_thread(put, "first", "Write with a pencil.")
    await asyncio.to_thread(put, "second", "Write with a brush.")
    days = [100.0]
    async with (
        fake_llm(script=lambda _: Answer(text="old")) as old,
        fake_llm(script=lambda _: Answer(text="new")) as new,
    ):
        before = make_settings(tmp_path, llm_url=old.url, agents={"writer": {"skills_dir": "first"}})
        changed = {"skills_dir": "second", "max_age_days": 5.0}
        after = make_settings(tmp_path, llm_url=new.url, llm={"model_id": "other"}, agents={"writer": changed})
        async with running_gateway(before, clock=lambda: days[0] * 86_400) as gateway:
            assert said(await ask(gateway, "writer")) == "old"
            assert said(await ask(gateway, "main")) == "old"
            assert len(await gateway.turns()) == 2
            days[0] = 120.0
            await gateway.adopt(after)
            while len(await gateway.turns()) > 1:  # noqa: ASYNC110 - what is pruned is told to nobody
                await asyncio.sleep(0.01)
            assert said(await ask(gateway, "writer")) == "new"
            assert [turn.agent for turn in await gateway.turns()] == ["main", "writer"]
            with pytest.raises(ConfigError):
                await gateway.adopt(make_settings(tmp_path, llm={"provider": "nobody"}))
            assert said(await ask(gateway, "main")) == "new"
    assert "pencil" in str(old.requests[0])
    assert "brush" in str(new.requests[0])
    assert "pencil" not in str(new.requests[0])
    assert new.requests[0]["model"] == "other"


async def test_other_modes_and_models_are_taken_up_between_two_turns_or_not_at_all(tmp_path: Path) -> None:
    async with fake_llm(script=lambda _: Answer(text="policy"), api_key=KEY) as policy, fake_llm() as llm:
        before = settings_for(tmp_path, policy.url, llm.url)
        async with running_gateway(before) as gateway:
            upstream = said(await ask(gateway, "research"))
            routers: AgentRouters = gateway.routers
            routers.adopt(settings_for(tmp_path, policy.url, llm.url, agents={"research": {"mode": "auto"}}))
            assert said(await ask(gateway, "research")) == "policy"
            routers.adopt(before)
            assert said(await ask(gateway, "research")) == upstream
