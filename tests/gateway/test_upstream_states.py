"""How the models behind the gateway fare, told to the owner alone and by the names of settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import make_settings, running_gateway
from tests.gateway.test_access import make

pytestmark = pytest.mark.anyio
URL = "/v1/admin/upstreams"
BODY = {"model": "metaclaw", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_key_that_was_refused_is_told_of_with_the_time_that_it_is_left_alone(tmp_path: Path) -> None:
    def script(_: object) -> Answer:
        return Answer(status=401) if len(llm.requests) == 1 else Answer()

    async with fake_llm(script) as llm:
        settings = make_settings(
            tmp_path,
            llm_url=llm.url,
            llm={"api_key": "sk-used-up", "api_keys": ["sk-good"]},
            agents={"ann": {"llm": {"api_base": llm.url, "model_id": "own"}}},
        )
        async with running_gateway(settings) as gateway:
            async with gateway.post(BODY) as answer:
                assert answer.status == 200
            async with gateway.http.get(gateway.url + URL, headers=gateway.headers) as answer:
                text = await answer.text()
                first, second, own = (await answer.json())["upstreams"]
    assert (first["credential"], first["state"], first["num_requests"]) == ("llm.api_key", "cooling", 1)
    assert 200 < first["cooldown_left_s"] <= 300
    assert (second["credential"], second["state"], second["cooldown_left_s"]) == ("llm.api_keys[0]", "ready", 0)
    assert (own["credential"], own["num_requests"]) == ("agents.ann.llm.api_key", 0)
    assert "sk-" not in text


async def test_nobody_but_the_owner_is_told(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        token, _ = await asyncio.to_thread(make, tmp_path)
        for secret, status in (("wrong", 401), (token, 403)):
            async with gateway.http.get(gateway.url + URL, headers={"Authorization": f"Bearer {secret}"}) as answer:
                assert answer.status == status
