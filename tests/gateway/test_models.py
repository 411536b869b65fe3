"""What a client may ask for by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio


async def test_our_own_model_is_listed_where_the_one_behind_it_has_no_list(tmp_path: Path) -> None:
    """Clients that look for it first would never come to ask a question."""
    llm = {"api_base": "http://127.0.0.1:9/v1", "model_id": "m"}
    async with running_gateway(make_settings(tmp_path, llm=llm)) as gateway:
        assert [model.id async for model in gateway.client.models.list()] == ["metaclaw"]
        assert (await gateway.client.models.retrieve("metaclaw")).id == "metaclaw"


async def test_whoever_looks_for_health_elsewhere_is_told_where_it_is(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        for path in ("/health", "/v1/health"):
            async with gateway.http.get(gateway.url + path, headers=gateway.headers) as answer:
                assert answer.status == 404
                assert "GET /healthz" in await answer.text()
