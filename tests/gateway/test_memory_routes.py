"""What an agent remembers, over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.gateway.running import TOKEN, make_settings, running_gateway
from tests.gateway.test_access import make

pytestmark = pytest.mark.anyio
URL = "/v1/memory"


async def test_what_was_stored_is_found_shown_and_forgotten(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        async with gateway.post({"text": "The user's sister lives in Porto."}, f"{URL}/store") as answer:
            assert answer.status == 200
            unit = (await answer.json())["id"]
        address = gateway.url + URL
        async with gateway.http.get(f"{address}/search?q=sister+Porto", headers=gateway.headers) as answer:
            (found,) = (await answer.json())["results"]
            assert found["unit"]["id"] == unit
            assert 0 < found["score"] <= 1
        async with gateway.http.get(f"{address}/{unit}", headers=gateway.headers) as answer:
            assert (await answer.json())["text"] == "The user's sister lives in Porto."
        async with gateway.http.get(f"{address}/summary", headers=gateway.headers) as answer:
            assert (await answer.json())["counts"]["units"] == 1
        async with gateway.http.delete(f"{address}/{unit}", headers=gateway.headers) as answer:
            assert (await answer.json())["forgotten"] == [unit]
        async with gateway.http.get(f"{address}/{unit}", headers=gateway.headers) as answer:
            assert answer.status == 404
        async with gateway.http.get(f"{address}/stats", headers=gateway.headers) as answer:
            assert await answer.json() == {"agent": "main", "forgotten": 1}


async def test_an_agent_never_sees_or_forgets_what_is_anothers(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        async with gateway.post({"text": "The vault opens on Tuesday."}, f"/agents/coder{URL}/store") as answer:
            unit = (await answer.json())["id"]
        for path in (f"{URL}/{unit}", f"/agents/other{URL}/{unit}"):
            async with gateway.http.get(gateway.url + path, headers=gateway.headers) as answer:
                assert answer.status == 404
            async with gateway.http.delete(gateway.url + path, headers=gateway.headers) as answer:
                assert answer.status == 404
        async with gateway.http.get(f"{gateway.url}{URL}/search?q=vault", headers=gateway.headers) as answer:
            assert (await answer.json())["results"] == []
        path = f"/agents/coder{URL}/search?q=vault"
        async with gateway.http.get(gateway.url + path, headers=gateway.headers) as answer:
            assert len((await answer.json())["results"]) == 1


async def test_a_key_of_one_agent_is_that_agent_whatever_it_says(tmp_path: Path) -> None:
    secret, _ = await asyncio.to_thread(make, tmp_path, agent="coder")
    headers = {"Authorization": f"Bearer {secret}"}
    async with running_gateway(make_settings(tmp_path)) as gateway:
        async with gateway.post({"text": "The vault opens on Tuesday."}, f"{URL}/store") as answer:
            assert answer.status == 200
        async with gateway.http.get(f"{gateway.url}{URL}/search?q=vault", headers=headers) as answer:
            assert (await answer.json())["results"] == []
        async with gateway.http.get(f"{gateway.url}/agents/main{URL}/search?q=vault", headers=headers) as answer:
            assert answer.status == 403


async def test_it_needs_a_token_and_says_so_when_it_is_off(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path, memory={"enabled": False})) as gateway:
        async with gateway.http.get(f"{gateway.url}{URL}/stats") as answer:
            assert answer.status == 401
        async with gateway.http.get(f"{gateway.url}{URL}/stats", headers=gateway.headers) as answer:
            assert answer.status == 503
            assert "memory.enabled" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/search", None),
        ("GET", "/search?q=x&limit=0", None),
        ("GET", "/search?q=x&limit=many", None),
        ("POST", "/store", {"text": ""}),
        ("POST", "/store", {"text": "x", "agent": "other"}),
        ("POST", "/store", {"text": "x", "scope": "user"}),
        ("POST", "/buffer_turn", {"session_id": "s"}),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_reason(
    tmp_path: Path, method: str, path: str, body: object
) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with gateway.http.request(method, f"{gateway.url}{URL}{path}", json=body, headers=headers) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["message"]
