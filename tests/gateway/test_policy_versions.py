"""Which version of a policy answers whom."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.llm import BASE_MODEL, fake_llm
from tests.gateway.policies import (
    HELLO,
    KEY,
    V1,
    V2,
    ask,
    end_canary,
    rl_settings,
    sample_of,
    serve_version,
    try_version,
    versions_of,
)
from tests.gateway.running import running_gateway

pytestmark = pytest.mark.anyio


async def test_a_running_session_keeps_its_version_until_it_is_idle(tmp_path: Path) -> None:
    now = 1000.0
    models = [BASE_MODEL, V1, V2]
    await serve_version(tmp_path, "main", 1, V1)
    async with fake_llm(api_key=KEY, models=models, knows_only_its_models=True) as policy:
        settings = rl_settings(tmp_path, policy, rl={"session_idle_s": 60})
        async with running_gateway(settings, clock=lambda: now) as gateway:
            old = [(await ask(gateway, session="old")).headers["x-metaclaw-policy"]]
            await serve_version(tmp_path, "main", 2, V2)
            now += 59
            old.append((await ask(gateway, session="old")).headers["x-metaclaw-policy"])
            new = (await ask(gateway, session="new")).headers["x-metaclaw-policy"]
            now += 61
            old.append((await ask(gateway, session="old")).headers["x-metaclaw-policy"])
    assert old == ["main@1", "main@1", "main@2"]
    assert new == "main@2"
    assert [request["model"] for request in policy.requests] == [V1, V1, V2, V2]


async def test_agents_have_versions_of_their_own(tmp_path: Path) -> None:
    await serve_version(tmp_path, "ops", 1, V1)
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        async with gateway.post({"messages": HELLO}, "/agents/ops/v1/chat/completions") as response:
            assert response.headers["X-MetaClaw-Policy"] == "ops@1"
        assert (await ask(gateway)).headers["x-metaclaw-policy"] == "main@0"
        listed = await (
            await gateway.http.get(f"{gateway.url}/agents/ops/v1/models", headers={"x-api-key": "gateway-token"})
        ).json()
    assert listed["data"][0]["policy"] == "ops@1"


async def test_a_canary_gets_its_share_of_the_sessions_and_each_session_one_version(tmp_path: Path) -> None:
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        await serve_version(tmp_path, "main", 1, V1)
        await asyncio.to_thread(try_version, tmp_path, "main", 2, V2, 0.25)
        seen = {name: await versions_of(gateway, name, turns=2) for name in map(str, range(60))}
        await asyncio.to_thread(end_canary, tmp_path)
        after = {name: await versions_of(gateway, name, turns=1) for name in ("0", "1", "new")}
        turns = await gateway.turns()
    assert all(len(set(versions)) == 1 for versions in seen.values()), "a session has one version"
    canary = [name for name, versions in seen.items() if versions[0] == "main@2"]
    assert {versions[0] for versions in seen.values()} == {"main@1", "main@2"}
    assert 5 <= len(canary) <= 25, "the hash of 60 names: 25% give or take four standard deviations"
    assert [after[name] for name in ("0", "1")] == [seen["0"][:1], seen["1"][:1]], "a running session keeps its own"
    assert after["new"] == ["main@1"]
    asked = [body["model"] for body in policy.requests]
    assert asked.count(V2) == 2 * len(canary) + sum(name in canary for name in ("0", "1"))
    sample = await sample_of(gateway, turns[0].id)
    assert sample is not None
    assert f"main@{sample.version}" == seen["0"][0], "which version answered is recorded"


async def test_a_version_that_the_server_lost_is_replaced_by_the_one_that_serves(tmp_path: Path) -> None:
    """KNOWLEDGE 6: an evicted adapter answers 404 for ever."""
    await serve_version(tmp_path, "main", 1, V1)
    models = [BASE_MODEL, V1]
    async with (
        fake_llm(api_key=KEY, models=models, knows_only_its_models=True) as policy,
        running_gateway(rl_settings(tmp_path, policy)) as gateway,
    ):
        await ask(gateway)
        await serve_version(tmp_path, "main", 2, V2)
        models[1:] = [V2]
        labels = [(await ask(gateway)).headers["x-metaclaw-policy"] for _ in range(2)]
    assert labels == ["main@2", "main@2"]
    assert [request["model"] for request in policy.requests] == [V1, V1, V2, V2]
