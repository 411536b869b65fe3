"""Calling models: time limits, the one retry, and errors that tell no secrets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict
from pydantic import SecretStr

from metaclaw.errors import UpstreamError
from metaclaw.http.errors import error_answer
from metaclaw.upstreams import http_model, posting
from metaclaw.upstreams.failures import final_error
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.refusals import refusal, retry_after_s
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.fakes.llm import Answer, fake_llm

pytestmark = pytest.mark.anyio

KEY = "sk-our-own-secret"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["posted", "by the session"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is posted by the shorter way, is asked by the session where aiohttp is another than was tested with."""
    if request.param == "by the session":
        monkeypatch.setattr(posting, "_TESTED", ())


def upstream(url: str, key: str = KEY, timeouts: Timeouts | None = None, **more: Any) -> Upstream:
    return Upstream(
        name="fake",
        base_url=url,
        api_key=SecretStr(key),
        key_setting="llm.api_key",
        timeouts=timeouts or Timeouts(),
        **more,
    )


@asynccontextmanager
async def client(url: str, key: str = KEY, **timeouts: float) -> AsyncGenerator[HttpModel]:
    async with new_session() as session:
        yield HttpModel(session, upstream(url, key, Timeouts(**timeouts)))


@asynccontextmanager
async def raw_server(*replies: bytes | None) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """Answers one connection after the other with these bytes; ``None`` hangs up at once."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(65536))
        reply = replies[min(len(seen), len(replies)) - 1]
        if reply:
            writer.write(reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", seen


async def test_a_connection_that_fails_before_the_answer_is_tried_once_more() -> None:
    async with raw_server(None, PLAIN) as (url, seen), client(url) as model:
        reply = await model.chat(BODY)
        assert await reply.read() == b"{}"
    assert len(seen) == 2


async def test_nothing_is_sent_twice_once_the_answer_has_begun() -> None:
    broken = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: 1"
    async with raw_server(broken) as (url, seen), client(url) as model:
        reply = await model.chat(BODY)
        with pytest.raises(UpstreamError, match="broke off"):
            await reply.read()
        reply.close()
    assert len(seen) == 1


async def test_nobody_there_is_an_error_without_a_status() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with client(f"http://127.0.0.1:{port}/v1") as model:
        with pytest.raises(UpstreamError, match="cannot be reached") as caught:
            await model.chat(BODY)
    assert caught.value.status is None
    assert caught.value.retryable


@pytest.mark.parametrize(
    "reply",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n"],
    ids=["ssh", "long"],
)
async def test_something_that_is_no_http_is_an_error_without_a_status(reply: bytes) -> None:
    async with raw_server(reply) as (url, seen), client(url) as model:
        with pytest.raises(UpstreamError, match="does not answer in HTTP") as caught:
            await model.chat(BODY)
    assert caught.value.status is None
    assert "xxx" not in str(caught.value)
    assert len(seen) == 1


async def test_a_url_or_a_key_that_cannot_be_sent_is_an_error_without_a_status() -> None:
    async with raw_server(PLAIN) as (url, seen):
        for asked, key in (("http://127.0.0.1:99999/v1", KEY), (url, f"{KEY}\n")):
            async with client(asked, key=key) as model:
                with pytest.raises(UpstreamError, match=r"cannot be asked.*llm\.api_key") as caught:
                    await model.chat(BODY)
            assert caught.value.status is None
            assert KEY not in str(caught.value)
    assert b"".join(seen) == b""


async def test_the_limit_for_the_first_byte_is_one_for_headers_body_and_retry() -> None:
    async def hang_up_late_then_send_headers_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        attempts.append(writer)
        await asyncio.sleep(0.3)
        if len(attempts) == 1:
            writer.close()
            return
        writer.write(PLAIN.removesuffix(b"{}"))
        await reader.read()  # until our side has given up
        writer.close()
        is_left.set()

    attempts: list[asyncio.StreamWriter] = []
    is_left = asyncio.Event()
    server = await asyncio.start_server(hang_up_late_then_send_headers_only, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    async with client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", first_byte_s=1.0) as model:
        began = loop.time()
        with pytest.raises(UpstreamError, match="sent nothing for 1 s"):
            await model.chat(BODY)
        took_s = loop.time() - began
        await is_left.wait()
    server.close()
    assert len(attempts) == 2
    assert 0.9 < took_s < 1.25


async def test_silence_before_and_inside_an_answer_has_its_own_limit() -> None:
    async with fake_llm(lambda _: Answer(hold_after=1)) as llm, client(llm.url, gap_s=0.2) as model:
        reply = await model.chat(BODY)
        with pytest.raises(UpstreamError, match=r"fell silent for 0\.2 s") as caught:
            await reply.read()
        reply.close()
        await llm.was_left.wait()
    assert caught.value.status == 504
    async with fake_llm(lambda _: Answer(hold_after=0)) as llm, client(llm.url, first_byte_s=0.2) as model:
        with pytest.raises(UpstreamError, match=r"0\.2 s"):
            await model.chat({**BODY, "stream": False})
        await llm.was_left.wait()
        assert len(llm.requests) == 1


async def test_a_whole_answer_may_take_longer_to_begin_than_a_stream() -> None:
    """A model sends the first byte of a plain answer with the last: what takes minutes was asked again and again."""
    raw = json.dumps(BODY).encode()
    async with (
        fake_llm(lambda _: Answer(hold_after=0)) as llm,
        client(llm.url, first_byte_s=0.2, plain_s=60.0) as model,
    ):
        plain = asyncio.create_task(model.send("openai.chat", raw, is_stream=False))
        with pytest.raises(UpstreamError, match=r"sent nothing for 0\.2 s"):
            await model.send("openai.chat", raw)
        assert not plain.done()
        llm.go_on.set()
        reply = await plain
        assert await reply.read()
        reply.close()


@pytest.mark.parametrize(
    ("dialect", "path"), [("openai.chat", "/v1/chat/completions"), ("openai.responses", "/v1/responses")]
)
async def test_a_bearer_upstream_is_asked_at_the_path_of_the_dialect(dialect: str, path: str) -> None:
    async with raw_server(PLAIN) as (url, seen), client(url) as model:
        await (await model.send(dialect, b'{"a": 1}', headers={"openai-beta": "x=1", "cookie": "no"})).read()
    assert seen[0].startswith(f"POST {path} HTTP/1.1".encode())
    assert seen[0].endswith(b'{"a": 1}')
    assert b"openai-beta: x=1" in seen[0]
    assert f"Authorization: Bearer {KEY}".encode() in seen[0]
    assert b"Cookie" not in seen[0]
    assert b"anthropic" not in seen[0]


async def test_an_anthropic_upstream_gets_its_own_headers_and_the_clients_version() -> None:
    async with raw_server(PLAIN) as (url, seen), new_session() as session:
        model = HttpModel(session, upstream(url, dialects=("anthropic.messages",)))
        await (await model.send("anthropic.messages", b"{}")).read()
        theirs = {"anthropic-version": "2026-10-21", "anthropic-beta": "b1", "authorization": "Bearer the-clients"}
        await (await model.send("anthropic.messages", b"{}", headers=theirs)).read()
        with pytest.raises(UpstreamError, match="without a list"):
            await model.models()
    assert seen[0].startswith(b"POST /v1/messages HTTP/1.1")
    assert f"x-api-key: {KEY}".encode() in seen[0]
    assert b"anthropic-version: 2023-06-01" in seen[0]
    assert b"anthropic-version: 2026-10-21" in seen[1]
    assert b"anthropic-beta: b1" in seen[1]
    assert b"Authorization" not in seen[0] + seen[1]
    assert b"anthropic-version" in seen[2]


async def test_a_dialect_can_be_spoken_elsewhere_and_keys_added_to_a_body_never_replace_the_clients() -> None:
    async with raw_server(PLAIN) as (url, seen), raw_server(PLAIN) as (other, seen_there), new_session() as session:
        extra = {"models": ["b"], "route": "fallback", "provider": {"sort": "price", "data_collection": "deny"}}
        settings = upstream(url, bases={"anthropic.messages": other}, extra_body=extra)
        model = HttpModel(session, settings)
        await (await model.send("anthropic.messages", b'{"models":["c"],"provider":{"sort":"latency"}}')).read()
    assert not seen
    assert json.loads(seen_there[0].partition(b"\r\n\r\n")[2]) == {
        "models": ["c"],
        "route": "fallback",
        "provider": {"sort": "latency", "data_collection": "deny"},
    }


@pytest.mark.parametrize("body", [b'{"error": {"mess', b""], ids=["cut", "none"])
@pytest.mark.parametrize("stays_open", [True, False])
async def test_a_refusal_counts_though_its_body_does_not_come(
    body: bytes, stays_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies that refuse a large request close at once, and the reset takes the body with it: 413 was asked again."""
    monkeypatch.setattr(http_model, "_REFUSAL_S", 0.2)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 429 Slow Down\r\nContent-Length: 99\r\nRetry-After: 7\r\n\r\n" + body)
        await writer.drain()
        if stays_open:
            await reader.read()  # until our side has given up
        writer.close()

    asked: list[bytes] = []
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server, client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as model:
        with pytest.raises(UpstreamError, match="answered 429") as caught:
            await model.chat(BODY)
    assert (caught.value.status, caught.value.retry_after_s, len(asked)) == (429, 7, 1)


async def test_blanks_before_a_plain_answer_are_not_its_beginning() -> None:
    """OpenRouter keeps a connection alive with them, and says only then, under status 200, that a provider failed."""
    body = [b"\n   \n", b"  \n", b'{"error": {"message": "overloaded", "code": 529}}']

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole))
        for piece in body:
            await asyncio.sleep(0.05)
            writer.write(piece)
        writer.close()

    whole = b"".join(body)
    server = await asyncio.start_server(answer_late, "127.0.0.1", 0)
    async with server, client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as model:
        with pytest.raises(UpstreamError, match="overloaded") as caught:
            await model.chat(BODY)
    assert caught.value.status == 529


async def test_a_redirect_is_not_followed() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(moved) as (url, _), client(url) as model:
        with pytest.raises(UpstreamError, match="answered 307: its API has another address: set that one"):
            await model.chat(BODY)


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b'{"error": {"message": "bad", "code": "c"}}', "application/json", "fake answered 400: bad"),
        (b'{"error": "bad"}', "application/json", "fake answered 400: bad"),
        (b'{"detail": "bad"}', "application/json", "fake answered 400: bad"),
        (b'[{"error": {"code": 400, "message": "bad"}}]', "application/json", "fake answered 400: bad"),
        (
            b'{"detail": [{"loc": ["body", "n"], "msg": "too many", "input": "secret"}, {"msg": "no"}, 5]}',
            "application/json",
            "fake answered 400: n: too many; no",
        ),
        (b"bad", "text/plain; charset=utf-8", "fake answered 400: bad"),
        (b"<html>bad</html>", "text/html", "fake answered 400"),
        (
            f'{{"error": {{"message": "key {KEY} is odd"}}}}'.encode(),
            "application/json",
            "fake answered 400: key *** is odd",
        ),
    ],
)
def test_an_error_says_what_the_upstream_said(body: bytes, content_type: str, says: str) -> None:
    """PITFALLS S6: credentials printed and logged."""
    headers = {"Content-Type": content_type, "Retry-After": "4"}
    error = refusal("fake", "llm.api_key", SecretStr(KEY), 400, headers, body)
    assert (str(error), error.status, error.retry_after_s) == (says, 400, 4.0)
    assert error.said == says.partition(": ")[2], "what no log may hold"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"error": {"message": "no", "code": ["insufficient_quota"], "type": {"a": 1}}}', {"message": "no"}),
        (b'{"error": {"message": "no", "code": 1e999, "param": 3}}', {"message": "no", "param": 3}),
        (b'{"error": {"message": "half \\ud83d", "code": "\\ud800"}}', {"message": "half \\ud83d", "code": "\\ud800"}),
        (b'{"error": "half \\ud83d"}', {"message": "half \\ud83d"}),
        (b'{"error": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}),
    ],
)
def test_an_error_that_is_hard_to_write_is_an_error_all_the_same(body: bytes, detail: dict[str, Any]) -> None:
    error = refusal("fake", "llm.api_key", SecretStr(KEY), 429, {}, body)
    assert error.detail == detail
    final = error_answer(final_error([error], 0.0), "openai")
    assert (final.status, final.response().status_code) == (429, 429)


async def test_an_answer_of_nothing_is_no_answer() -> None:
    for head in (b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"):
        end = b"0\r\n\r\n" if b"chunked" in head else b""
        async with raw_server(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + end) as (url, _), client(url) as model:
            with pytest.raises(UpstreamError, match="fake answered with nothing"):
                await model.chat(BODY)


def test_an_error_without_an_envelope_keeps_its_code() -> None:
    body = b'{"object": "error", "message": "too long", "type": "BadRequestError", "code": "context_length_exceeded"}'
    error = refusal("fake", "llm.api_key", SecretStr(KEY), 400, {}, body)
    assert error.detail == {"message": "too long", "type": "BadRequestError", "code": "context_length_exceeded"}


async def test_long_headers_of_a_proxy_before_a_model_are_read() -> None:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "hi"}}]}).encode()
    head = f"HTTP/1.1 200 OK\r\nX-Policy: {'a' * 20_000}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with raw_server(head.encode() + body) as (url, _), client(url) as model:
        reply = await model.chat(BODY)
        assert json.loads(await reply.read())["choices"]
        reply.close()


def test_a_wish_in_milliseconds_is_the_finer_one() -> None:
    headers = {"Retry-After": "4", "retry-after-ms": "1500"}
    assert refusal("fake", "llm.api_key", SecretStr(KEY), 429, CIMultiDict(headers), b"").retry_after_s == 1.5
    headers["retry-after-ms"] = "soon"
    assert refusal("fake", "llm.api_key", SecretStr(KEY), 429, CIMultiDict(headers), b"").retry_after_s == 4.0


def test_retry_after_is_a_number_or_a_date() -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    assert retry_after_s("1.5") == 1.5
    assert retry_after_s("Mon, 23 Nov 2026 12:00:30 GMT", now) == 30.0
    assert retry_after_s("Mon, 23 Nov 2026 11:00:30 GMT", now) == 0.0
    assert [retry_after_s(text) for text in ("", "soon", "-3")] == [None, None, None]


@pytest.mark.parametrize("text", ["9" * 400, "9" * 12, "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_wish_without_end_is_a_week(text: str) -> None:
    assert retry_after_s(text) == 7 * 86_400
    assert refusal("fake", "llm.api_key", SecretStr(KEY), 429, {"Retry-After": text}, b"").retry_after_s == 7 * 86_400
    if text.isdecimal():
        error = refusal("fake", "llm.api_key", SecretStr(KEY), 429, {"Retry-After-Ms": text * 2}, b"")
        assert error.retry_after_s == 7 * 86_400


def test_a_date_of_no_zone_that_there_is_is_no_wish() -> None:
    assert retry_after_s("Wed, 21 Oct 2026 07:28:00 +99999999999") is None
