"""The shorter way onto aiohttp's connections: the same bytes, the same answers, the same trouble."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.connector import Connection
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.upstreams.connections import Connector
from metaclaw.upstreams.posting import MAX_BODY_BYTES, Poster
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import passed_on
from tests.upstreams.test_http_model import upstream

pytestmark = pytest.mark.anyio

LIMITS = aiohttp.ClientTimeout(total=None, connect=5.0)
HEADERS = (("Content-Type", "application/json"), ("X-Name", "Zo\u00eb"), ("Authorization", "Bearer sk-1"))
BODY = json.dumps({"model": "m", "messages": []}).encode()
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Post = Callable[[str, bytes], Awaitable[aiohttp.ClientResponse]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """Answers each request with the next of ``replies``, which may come in several pieces, on kept connections."""

    def __init__(self, *replies: list[bytes]) -> None:
        self.requests: list[bytes] = []
        self.num_connections = 0
        self.was_asked = asyncio.Event()
        self.was_left = asyncio.Event()
        self._replies = iter(replies)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                self.was_asked.set()
                for piece in next(self._replies):
                    writer.write(piece)
                    await asyncio.sleep(0.01)
                if b"close" in head.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, StopIteration):
            self.was_left.set()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncGenerator[str]:
    tasks: list[asyncio.Task[None]] = []

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        with contextlib.closing(writer):
            await serve(reader, writer)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions?beta=true"
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


@asynccontextmanager
async def running(*replies: list[bytes]) -> AsyncGenerator[tuple[str, Server]]:
    served = Server(*replies)
    async with listening(served.serve) as url:
        yield url, served


async def posted(poster: Poster, url: str, data: bytes = BODY) -> aiohttp.ClientResponse:
    answer = await poster.post(url, HEADERS, data, limits=LIMITS)
    assert answer is not None, "the session would be asked"
    return answer


async def test_the_bytes_are_those_of_the_session() -> None:
    async with running([PLAIN], [PLAIN]) as (url, server), new_session({}) as session:
        assert await (await posted(Poster(session), url)).read() == b"{}"
        async with session.post(url, headers=HEADERS, data=BODY) as answer:
            await answer.read()
    assert server.requests[0] == server.requests[1]
    assert server.num_connections == 1, "the session's own connections are used, and given back"


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([PLAIN], b"{}"),
        ([PLAIN[:20], PLAIN[20:-1], PLAIN[-1:]], b"{}"),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", PLAIN], b"{}"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", b"c\r\n", b"0\r\n\r\n"], b"abc"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], b""),
        (
            [
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"%x\r\n%b\r\n0\r\n\r\n" % (len(zipped := gzip.compress(b"what was said")), zipped)
            ],
            b"what was said",
        ),
    ],
    ids=["whole", "in pieces", "a hint first", "chunked", "empty", "compressed"],
)
async def test_an_answer_is_read_to_its_end_and_its_connection_used_again(pieces: list[bytes], body: bytes) -> None:
    async with running(pieces, pieces, [PLAIN]) as (url, server), new_session({}) as session:
        poster = Poster(session)
        for _ in range(2):
            answer = await posted(poster, url)
            assert (answer.status, await answer.read(), answer.closed) == (200, body, True)
        assert await (await posted(poster, url)).read() == b"{}"
    assert server.num_connections == 1


async def test_an_answer_that_is_left_is_cut_and_its_connection_is_not_used_again() -> None:
    begun = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    async with running(begun, [PLAIN]) as (url, server), new_session({}) as session:
        poster = Poster(session)
        answer = await posted(poster, url)
        assert await answer.content.readany() == b"abc"
        reading = asyncio.ensure_future(answer.content.readany())
        await asyncio.sleep(0)
        answer.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await reading
        await asyncio.wait_for(server.was_left.wait(), 5)
        assert await (await posted(poster, url)).read() == b"{}"
    assert server.num_connections == 2


async def test_a_request_that_is_given_up_cuts_its_connection() -> None:
    async with running([]) as (url, server), new_session({}) as session:
        asking = asyncio.ensure_future(posted(Poster(session), url))
        await asyncio.wait_for(server.was_asked.wait(), 5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.was_left.wait(), 5)


async def _trouble(post: Post, url: str) -> tuple[type[BaseException], str]:
    try:
        await (await post(url, BODY)).read()
    except (aiohttp.ClientError, ValueError) as error:
        return type(error), str(error)
    raise AssertionError("it was answered")


@pytest.mark.parametrize(
    "said",
    [
        [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc"],
        [],
    ],
    ids=["no HTTP", "a long header", "half an answer", "nothing"],
)
async def test_what_fails_raises_what_the_session_raises(said: list[bytes]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in said:
            writer.write(piece)
        await reader.read(len(BODY))

    async with listening(answer) as url, new_session({}) as session:
        poster = Poster(session)
        ours = await _trouble(lambda url, data: posted(poster, url, data), url)
        theirs = await _trouble(lambda url, data: session.post(url, data=data, headers=HEADERS), url)
    assert ours == theirs


async def test_nobody_there_raises_what_the_session_raises() -> None:
    async with running() as (url, _):
        pass
    async with new_session({}) as session:
        poster = Poster(session)
        ours = await _trouble(lambda url, data: posted(poster, url, data), url)
        theirs = await _trouble(lambda url, data: session.post(url, data=data, headers=HEADERS), url)
    assert ours == theirs


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:1/v1", (*HEADERS, ("X-Key", "one\r\nX-Other: two"))),
        ("http://127.0.0.1:1/v1", (*HEADERS, ("X-Key\r\nX-Other: 1", "two"))),
        ("http://127.0.0.1:1/v1", (*HEADERS, ("X-Key", "one\x01two"))),
        ("http://127.0.0.1:1/v1", (*HEADERS, ("X-Key", "one\x7ftwo"))),
        ("http://127.0.0.1:1/v1", (*HEADERS, ("X-Key", "one\ud800two"))),
        ("ftp://127.0.0.1:1/v1", HEADERS),
        ("http://name:password@127.0.0.1:1/v1", HEADERS),
        ("http://[::1/v1", HEADERS),
        ("/v1", HEADERS),
    ],
    ids=[
        "a line end in a value",
        "and in a name",
        "a control",
        "another",
        "half a pair",
        "another scheme",
        "a password in the URL",
        "no URL",
        "no host",
    ],
)
async def test_what_cannot_be_written_is_left_to_the_session(url: str, headers: tuple[tuple[str, str], ...]) -> None:
    async with new_session({}) as session:
        assert await Poster(session).post(url, headers, BODY, limits=LIMITS) is None


async def test_a_large_body_and_what_goes_through_a_proxy_are_left_to_the_session() -> None:
    async with running([PLAIN]) as (url, server), new_session({}) as session:
        assert await Poster(session).post(url, HEADERS, b"x" * (MAX_BODY_BYTES + 1), limits=LIMITS) is None
        of_tls = b"x" * (64 * 1024 + 1)
        assert await Poster(session).post("https://127.0.0.1:1/v1", HEADERS, of_tls, limits=LIMITS) is None
        with pytest.raises(aiohttp.ClientConnectorError):
            await Poster(session).post("https://127.0.0.1:1/v1", HEADERS, of_tls[1:], limits=LIMITS)
        whole = await posted(Poster(session), url, b"x" * MAX_BODY_BYTES)
        assert await whole.read() == b"{}"
    assert server.requests[0].endswith(b"\r\n\r\n" + b"x" * MAX_BODY_BYTES)
    async with new_session({"HTTP_PROXY": "http://127.0.0.1:9"}) as session:
        assert await Poster(session).post("http://model.test/v1", HEADERS, BODY, limits=LIMITS) is None


class Losing(Connector):
    """Its connections are gone when somebody has them."""

    async def connect(self, *asked: Any, **options: Any) -> Connection:
        connection = await super().connect(*asked, **options)
        connection.protocol.close()
        return connection


async def test_a_connection_that_is_gone_at_once_is_one_that_may_be_there_at_the_next_attempt() -> None:
    async with running() as (url, _), new_session({}, connector=Losing()) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await posted(Poster(session), url)


async def test_one_that_does_not_take_connections_is_given_up_in_time() -> None:
    """A port whose queue of connections is full: the system answers nothing."""
    soon = aiohttp.ClientTimeout(total=None, connect=0.2)
    with contextlib.ExitStack() as closing:
        held = closing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = closing.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(held.getsockname())
        async with new_session({}) as session:
            url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await Poster(session).post(url, HEADERS, BODY, limits=soon)


@given(st.dictionaries(st.sampled_from(["anthropic-beta", "x-other", "openai-beta"]), st.text("abc", min_size=1)))
def test_of_a_clients_headers_those_for_a_model_alone_are_passed_on(client: dict[str, str]) -> None:
    sent = dict(upstream("http://127.0.0.1:1/v1").request_headers("openai.chat", passed_on(client)))
    for name in ("anthropic-beta", "openai-beta", "x-other"):
        assert sent.get(name) == (None if name == "x-other" else client.get(name))
