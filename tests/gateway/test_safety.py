"""What strangers, browsers and slow or greedy clients get from the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from metaclaw.gateway import http_protocol
from metaclaw.gateway.app import known_hosts
from tests.fakes.llm import fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
NOWHERE = "http://127.0.0.1:9/v1"


async def raw(gateway: RunningGateway, *pieces: bytes) -> bytes:
    """What the gateway says to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


async def test_nothing_that_a_gateway_leaves_in_its_home_can_be_read_by_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    before = os.umask(0o022)
    try:
        async with fake_llm() as llm, running_gateway(make_settings(home, llm_url=llm.url)) as gateway:
            async with gateway.post(HELLO) as response:
                assert response.status == 200
            await gateway.turns()
            left = {path.name: path.stat().st_mode & 0o077 for path in home.rglob("*")}
    finally:
        os.umask(before)
    assert {"turns.db", "turns.db.lock", "spool"} <= left.keys()
    assert {name for name, others in left.items() if others} == set()


async def test_what_others_may_read_in_a_copy_of_a_home_they_may_not_once_it_is_used(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    async with fake_llm() as llm:
        async with running_gateway(make_settings(live, llm_url=llm.url)) as gateway:
            async with gateway.post(HELLO) as response:
                assert response.status == 200
            await gateway.turns()
            await asyncio.to_thread(shutil.copytree, live, copy)  # with the log of the database, as after kill -9
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        async with running_gateway(make_settings(copy, llm_url=llm.url)):
            left = {path.name: path.stat().st_mode & 0o077 for path in copy.rglob("*.db*")}
            others_may = (copy / "spool").stat().st_mode & 0o077
    assert "turns.db-wal" in left
    assert {name for name, others in left.items() if others} <= {"turns.db.lock"}  # which is empty
    assert not others_may


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:30000", "[::1]:30000", "LOCALHOST:1", "gate.example:443"])
async def test_the_names_of_this_machine_and_those_that_are_allowed_are_known(tmp_path: Path, host: str) -> None:
    settings = make_settings(tmp_path, llm_url=NOWHERE, proxy={"allowed_hosts": "Gate.example, other"})
    async with running_gateway(settings) as gateway:
        headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
        async with gateway.http.get(f"{gateway.url}/metrics", headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:30000", "localhost.evil.example", "10.0.0.1", "x" * 300]
)
async def test_a_page_that_points_its_own_name_at_this_machine_reaches_nothing(tmp_path: Path, host: str) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for path, kind in (("/v1/chat/completions", "permission_error"), ("/v1/messages", "permission_error")):
            async with gateway.post(HELLO, path, Host=host) as response:
                assert response.status == 403
                error = (await response.json())["error"]
                assert error["type"] == kind
                assert "proxy.allowed_hosts" in error["message"]
        async with gateway.http.get(f"{gateway.url}/healthz", headers={"Host": host}) as response:
            assert response.status == 200
    assert llm.requests == []


def test_a_gateway_for_other_machines_answers_to_every_name_unless_some_are_given(tmp_path: Path) -> None:
    assert known_hosts(make_settings(tmp_path)) == frozenset()
    assert known_hosts(make_settings(tmp_path, proxy={"host": "0.0.0.0"})) is None
    some = {"host": "0.0.0.0", "allowed_hosts": ["A.example"]}
    assert known_hosts(make_settings(tmp_path, proxy=some)) == {"a.example"}


async def test_no_answer_lets_a_browser_read_it(tmp_path: Path) -> None:
    page = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        async with gateway.http.options(url, headers=page) as preflight, gateway.post(HELLO, **page) as answer:
            assert (preflight.status, answer.status) == (405, 200)
            for response in (preflight, answer):
                assert not [name for name in response.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: y\r\n" % number for number in range(http_protocol.MAX_HEADERS)),
        b"X: " + b"y" * http_protocol.MAX_HEAD_BYTES + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1024) for number in range(100)),
    ],
    ids=["many", "one", "much"],
)
async def test_a_head_that_is_too_large_is_431_and_the_connection_ends(tmp_path: Path, head: bytes) -> None:
    async with running_gateway(make_settings(tmp_path, llm_url=NOWHERE)) as gateway:
        whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n"
        for pieces in ((whole,), tuple(whole[start : start + 4096] for start in range(0, len(whole), 4096))):
            assert (await raw(gateway, *pieces))[:12] in (b"HTTP/1.1 431", b"reset")
        async with gateway.http.get(f"{gateway.url}/healthz") as response:
            assert response.status == 200


async def test_a_head_without_an_end_is_not_collected_for_ever(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path, llm_url=NOWHERE)) as gateway:
        endless = [b"GET / HTTP/1.1\r\nX: ", *[b"y" * 8192] * 40]
        assert (await raw(gateway, *endless))[:12] in (b"HTTP/1.1 431", b"reset")


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"])
async def test_a_head_that_does_not_come_ends_the_connection(
    tmp_path: Path, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.05)
    async with running_gateway(make_settings(tmp_path, llm_url=NOWHERE)) as gateway:
        assert await raw(gateway, begun) == b""


async def test_several_requests_on_one_connection_are_each_measured_alone(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path, llm_url=NOWHERE)) as gateway:
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\n"
        last = request + b"Connection: close\r\n\r\n"
        said = await raw(gateway, (request + b"\r\n") * 5 + last)
        assert said.count(b"HTTP/1.1 200") == 6


async def test_what_comes_after_a_body_says_nothing_of_who_asks(tmp_path: Path) -> None:
    """uvicorn adds such fields to the head; they may be many, and whoever stands before us has not seen them."""
    body = json.dumps(HELLO).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n" % TOKEN.encode()
    head += b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailers = b"X-Agent-Id: another\r\nX-Session-Id: theirs\r\n" + b"X-Much: %s\r\n" % (b"y" * 1000) * 200
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        said = await raw(gateway, head, b"%x\r\n%s\r\n0\r\n" % (len(body), body), trailers + b"\r\n")
        assert said.startswith(b"HTTP/1.1 200")
        [turn] = await gateway.turns()
    assert turn.agent == "main"
    assert turn.session != "theirs"
