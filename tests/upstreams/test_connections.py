"""Connections that are kept, and those that no longer are."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from metaclaw.upstreams.connections import Connector, watched_socket
from metaclaw.upstreams.posting import Poster
from metaclaw.upstreams.session import new_session

pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def model() -> AsyncGenerator[tuple[str, list[socket.socket]]]:
    """Answers any number of requests of a connection; lists the connections."""
    seen: list[socket.socket] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("socket"))
        while await reader.read(65536):
            await asyncio.sleep(0.05)  # so that requests at once have a connection each
            writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


@pytest.mark.parametrize(("slept_s", "connections"), [(0.0, 3), (4.0, 3), (60.0, 6), (-3600.0, 3)])
async def test_none_is_used_again_that_was_kept_before_a_sleep(slept_s: float, connections: int) -> None:
    wall = [1e9]
    connector = Connector(wall=lambda: wall[0], monotonic=lambda: 5.0)
    async with model() as (url, seen), new_session({}, connector=connector) as session:

        async def ask() -> bytes:
            async with session.post(url, data=b"{}") as response:
                return await response.read()

        for _ in range(2):  # the second time they are kept ones
            assert await asyncio.gather(*(ask() for _ in range(3))) == [b"{}"] * 3
        wall[0] += slept_s
        for _ in range(2):
            assert await asyncio.gather(*(ask() for _ in range(3))) == [b"{}"] * 3
        assert len(seen) == connections


async def test_an_answer_that_is_under_way_at_a_sleep_goes_on() -> None:
    wall = [1e9]
    connector = Connector(wall=lambda: wall[0], monotonic=lambda: 5.0)
    async with model() as (url, seen), new_session({}, connector=connector) as session:
        first = asyncio.create_task(session.post(url, data=b"{}"))
        while not seen:  # noqa: ASYNC110 - it is the server that counts
            await asyncio.sleep(0)
        wall[0] += 60.0
        async with session.post(url, data=b"{}") as second, await first as before:
            assert await second.read() == await before.read() == b"{}"


async def test_none_is_used_again_that_still_has_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that answers before it has read all, and reads no more: the next request would follow what is left."""

    def narrow(address: tuple[Any, ...]) -> socket.socket:
        made = watched_socket(address)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # what a network takes at once, and not this machine
        return made

    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(ANSWER)
        await over.wait()
        num_bytes = 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                num_bytes += len(piece)
        came.append(num_bytes)
        writer.close()

    asked, over, came = 0, asyncio.Event(), list[int]()
    monkeypatch.setattr("metaclaw.upstreams.connections.watched_socket", narrow)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server = await asyncio.start_server(answer_early, sock=listening, limit=1024)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with server, new_session({}) as session:
        poster, limits = Poster(session), aiohttp.ClientTimeout(connect=5.0)
        async with asyncio.timeout(5):
            for _ in range(2):
                answer = await poster.post(url, (("Content-Type", "a/b"),), b"x" * 200_000, limits=limits)
                assert answer is not None
                assert await answer.read() == b"{}"
            assert asked == 2
            over.set()
            while len(came) < 2:  # noqa: ASYNC110 - it is the server that tells
                await asyncio.sleep(0.01)
    assert max(came) < 150_000, "it is cut, not kept until somebody has read all of it"


async def test_none_is_used_again_on_which_something_came_that_nobody_asked_for() -> None:
    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(ANSWER)
            await asyncio.sleep(0.02)
            writer.write(ANSWER.replace(b"{}", b"[]"))
            came.set()
        writer.close()

    came = asyncio.Event()
    server = await asyncio.start_server(answer_twice, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, new_session({}) as session:
        for _ in range(3):
            came.clear()
            async with session.post(url, data=b"{}") as response:
                assert await response.read() == b"{}"
            await came.wait()
            await asyncio.sleep(0.02)


async def test_a_model_is_reached_where_the_system_knows_no_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some sandboxes refuse options that their Python has a name for."""
    monkeypatch.setattr("metaclaw.upstreams.connections._WATCHING", {"TCP_KEEPIDLE": -1})
    async with model() as (url, _), new_session({}) as session, session.post(url, data=b"{}") as response:
        assert await response.read() == b"{}"


def test_the_system_watches_whether_somebody_is_at_the_other_end() -> None:
    watched = watched_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1)))
    with watched:
        assert watched.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
