"""Turns go past the router, and nobody can tell."""

from __future__ import annotations

import asyncio
import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from metaclaw.chat.dialects import DIALECTS
from tests.fakes.llm import fake_llm
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio

TURN_PATHS = [f"{prefix}/v1{dialect.path}" for prefix in ("", "/agents/one") for dialect in DIALECTS.values()]


def message_of(body: Any) -> str:
    return body["error"]["message"]


async def test_the_path_of_a_turn_answers_to_nothing_but_a_post(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        for path, method in itertools.product(TURN_PATHS, ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")):
            async with gateway.http.request(method, gateway.url + path, headers=gateway.headers) as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "POST"), (path, method)
                if method != "HEAD":
                    body = await answer.json()
                    assert message_of(body) == f"{path} does not answer to {method}"
                    assert ("type" in body) is path.endswith("/messages")  # Anthropic's shape
        for path in TURN_PATHS:
            async with gateway.post({}, f"{path}/more") as answer:
                assert answer.status in (404, 405)  # below /v1/responses are routes for other methods
            async with gateway.http.post(f"{gateway.url}{path}/", allow_redirects=False) as answer:
                assert answer.status == (401 if path.endswith("/responses") else 307), path
        async with gateway.post({}, "/agents//v1/chat/completions") as answer:
            assert answer.status == 404
        async with gateway.http.get(f"{gateway.url}/metrics", headers=gateway.headers) as answer:
            page = await answer.text()
    assert 'requests_total{method="GET",route="/v1/messages",status="405"} 2.0' in page


async def test_what_is_refused_before_a_turn_begins_is_counted_by_its_path_in_the_shape_of_its_dialect(
    tmp_path: Path,
) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        for path in TURN_PATHS:
            for headers, status in (({}, 401), ({**gateway.headers, "Host": "evil.example"}, 403)):
                async with gateway.http.post(gateway.url + path, json={}, headers=headers) as answer:
                    assert (answer.status, "type" in await answer.json()) == (status, path.endswith("/messages"))
        async with gateway.http.get(f"{gateway.url}/metrics", headers=gateway.headers) as answer:
            page = await answer.text()
    for dialect in DIALECTS.values():
        for status in (401, 403):
            counted = f'requests_total{{method="POST",route="/v1{dialect.path}",status="{status}"}} 2.0'
            assert counted in page, page


class _Clock:
    """Right, until it breaks: once, at the second look, when the body of a request has been read."""

    def __init__(self) -> None:
        self.looks_left = math.inf

    def __call__(self) -> float:
        self.looks_left -= 1
        if not self.looks_left:
            raise RuntimeError("password=hunter2")
        return 1_780_000_000.0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/agents/one/v1/messages"])
async def test_a_bug_is_500_in_the_shape_of_the_dialect_and_the_next_turn_is_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    clock = _Clock()
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url), clock) as gateway:
        clock.looks_left = 2
        async with gateway.post(body, path) as answer:
            said = await answer.json()
            assert (answer.status, "type" in said) == (500, path.endswith("/messages"))
            assert "hunter2" not in await answer.text()
        await asyncio.sleep(0.05)  # the server closes a connection on which it failed
        async with gateway.post(body, path) as answer:
            assert answer.status == 200
        async with gateway.http.get(f"{gateway.url}/metrics", headers=gateway.headers) as answer:
            page = await answer.text()
    pattern = path.removeprefix("/agents/one")
    assert f'requests_total{{method="POST",route="{pattern}",status="500"}} 1.0' in page
    assert f"RuntimeError in POST {pattern}" in caplog.text
