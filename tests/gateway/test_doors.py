"""Every route of the gateway and of the memory's own process, as who may not come in finds it.

The routes are those of the applications themselves: a new one is tried without being named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from metaclaw.errors import ConfigError
from metaclaw.gateway.app import known_hosts, make_app, open_deps
from metaclaw.gateway.memory_process import memory_app, serve
from tests.gateway.running import TOKEN, make_settings, serving

pytestmark = pytest.mark.anyio

REFUSED: list[tuple[dict[str, str], int]] = [
    ({}, 401),
    ({"Authorization": "Bearer wrong"}, 401),
    ({"Authorization": f"Bearer {TOKEN}", "Host": "page.example.org"}, 403),
]


def methods_and_paths(routes: Iterable[BaseRoute]) -> list[tuple[str, str]]:
    """Each of ``routes`` with each method that it answers to, something in the place of its parameters."""
    return [
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for route in routes
        if isinstance(route, Route) and route.path != "/healthz"
        for method in sorted(route.methods or ())
    ]


async def assert_nobody_comes_in(app: ASGIApp, asked: list[tuple[str, str]]) -> None:
    async with serving(app) as url, aiohttp.ClientSession() as http:
        for headers, status in REFUSED:
            for method, path in asked:
                async with http.request(method, url + path, headers=headers) as response:
                    assert response.status == status, (method, path)


async def test_no_route_answers_without_the_token_or_by_a_name_of_somebody_elses(tmp_path: Path) -> None:
    """PITFALLS S1: memory, records and the admin's doors were as open as the relay."""
    settings = make_settings(tmp_path)
    app = make_app(lambda: open_deps(settings), hosts=known_hosts(settings))
    asked = methods_and_paths(app.routes)
    await assert_nobody_comes_in(app, asked)
    assert len(asked) > 60


async def test_no_route_of_the_memorys_own_process_does_either(tmp_path: Path) -> None:
    """PITFALLS S1, S11: that process asked nobody for anything."""
    app = memory_app(make_settings(tmp_path), hosts=frozenset())
    asked = methods_and_paths(app.routes)
    await assert_nobody_comes_in(app, asked)
    assert len(asked) > 30


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "memory.example.org"])
def test_the_memorys_process_is_open_to_no_other_machine_without_a_token_of_its_own(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PITFALLS S1. The gateway's token is not enough: whoever asks there would have to be told it."""

    def served(*_: object, **__: object) -> None:
        pytest.fail("it was served")

    monkeypatch.setattr(uvicorn, "run", served)
    with pytest.raises(ConfigError, match=r"memory\.sidecar_api_key"):
        serve(make_settings(tmp_path), host, 0)
    with pytest.raises(ConfigError, match="there is no token"):
        serve(make_settings(tmp_path, proxy={"api_key": ""}), "127.0.0.1", 0)
