"""What a provider says beside its answer, as the makers' SDKs show it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from metaclaw.upstreams.told_headers import told_headers
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import make_settings, running_gateway
from tests.gateway.test_anthropic import CHAT, MESSAGES, before

pytestmark = pytest.mark.anyio

HELLO: Any = [{"role": "user", "content": "hello"}]
OF_OPENAI = {"x-request-id": "req_1", "x-ratelimit-remaining-tokens": "149984", "openai-processing-ms": "321"}
OF_ANTHROPIC = {"request-id": "req_2", "anthropic-ratelimit-unified-5h-status": "allowed"}
SECRET = {
    "Set-Cookie": "__cf_bm=secret; HttpOnly", "openai-organization": "our-company", "anthropic-organization-id": "org",
    "Server": "their-server", "X-MetaClaw-Turn": "theirs", "X-MetaClaw-Recalled": "99", "Via": "1.1 their-proxy",
    "Strict-Transport-Security": "max-age=1", "Access-Control-Allow-Origin": "*", "Cache-Control": "public",
    "Alt-Svc": "h3=':443'", "Retry-After": "77", "WWW-Authenticate": "Basic",
}  # fmt: skip


def sends(headers: dict[str, str], **answer: Any) -> Any:
    return lambda _body: Answer(headers={**headers, **SECRET}, **answer)


@asynccontextmanager
async def raw_model(headers: dict[str, str], *, is_stream: bool) -> AsyncGenerator[str]:
    """A model whose head is written as it is given, by nobody who looks at it."""
    message = b'{"role": "assistant", "content": "hi"}'
    events = b'data: {"choices": [{"index": 0, "delta": %s, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n' % message
    body = events if is_stream else b'{"choices": [{"index": 0, "message": %s, "finish_reason": "stop"}]}' % message
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]")
        writer.write(
            b"HTTP/1.1 200 OK\r\n" + lines.encode("latin-1") + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def assert_nothing_else_came(headers: Any) -> None:
    assert headers["X-MetaClaw-Turn"].startswith("turn-")
    shown = {name.lower(): headers[name] for name in headers}
    assert shown.get("x-metaclaw-recalled", "0") == "0"
    assert not [name for name, value in SECRET.items() if shown.get(name.lower()) == value]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_openais_sdk_shows_the_models_request_id_and_limits(tmp_path: Path, is_stream: bool) -> None:
    async with (
        fake_llm(sends(OF_OPENAI)) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        raw = await gateway.client.chat.completions.with_raw_response.create(
            model="any", messages=HELLO, stream=is_stream
        )
        answer = raw.parse()
        if is_stream:
            assert [chunk async for chunk in answer][-1].choices[0].finish_reason == "stop"
        else:
            assert answer._request_id == "req_1"
    assert {name: raw.headers[name] for name in OF_OPENAI} == OF_OPENAI
    assert raw.request_id == "req_1"
    assert_nothing_else_came(raw.headers)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_anthropics_sdk_shows_the_models_request_id_and_limits(
    tmp_path: Path, dialects: tuple[str, ...], is_stream: bool
) -> None:
    sent = OF_ANTHROPIC if dialects == MESSAGES else OF_OPENAI
    async with before(tmp_path, dialects, sends(sent)) as (_, _, client):
        raw = await client.messages.with_raw_response.create(
            model="any", max_tokens=9, messages=HELLO, stream=is_stream
        )
        answer = await raw.parse()
        if is_stream:
            assert [event.type async for event in answer][-1] == "message_stop"
        else:
            assert answer._request_id in ("req_1", "req_2")
    assert {name: raw.headers[name] for name in sent} == sent
    assert raw.request_id == raw.headers["request-id"] == sent.get("request-id", "req_1")
    assert_nothing_else_came(raw.headers)


async def test_a_refused_request_has_them_too(tmp_path: Path) -> None:
    said = b'{"error": {"message": "no such thing", "type": "invalid_request_error"}}'
    refuses = sends(OF_OPENAI, status=400, body=said)
    async with fake_llm(refuses) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        with pytest.raises(openai.BadRequestError) as caught:
            await gateway.client.chat.completions.create(model="any", messages=HELLO)
    assert caught.value.request_id == "req_1"
    assert caught.value.response.headers["x-ratelimit-remaining-tokens"] == "149984"
    assert_nothing_else_came(caught.value.response.headers)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_no_header_may_hold_costs_the_header_and_not_the_answer(tmp_path: Path, is_stream: bool) -> None:
    """A server refuses to write such a head, and the client would see its connection end without a word."""
    odd = {"x-request-id": "req\x01\x7f", "x-generation-id": "gen-1", "Content-Type": "text/event-stream; x=\xff"}
    async with (
        raw_model(odd, is_stream=is_stream) as url,
        running_gateway(make_settings(tmp_path, llm_url=url)) as gateway,
        gateway.post({"model": "any", "messages": HELLO, "stream": is_stream}) as response,
    ):
        assert response.status == 200
        assert (await response.read()).startswith(b"data: {" if is_stream else b"{")
        assert response.headers["x-request-id"].startswith("turn-")
        assert response.headers["x-generation-id"] == "gen-1"


async def test_an_id_is_shown_under_the_name_that_the_clients_sdk_knows(tmp_path: Path) -> None:
    async with fake_llm(sends(OF_ANTHROPIC)) as llm:
        settings = make_settings(tmp_path, llm={"api_base": llm.url, "dialects": ["anthropic.messages"]})
        async with running_gateway(settings) as gateway:
            good = await gateway.client.chat.completions.create(model="any", messages=HELLO)
            llm.script = sends(OF_ANTHROPIC, status=400)
            with pytest.raises(openai.BadRequestError) as caught:
                await gateway.client.chat.completions.create(model="any", messages=HELLO)
    assert (good._request_id, caught.value.request_id) == ("req_2", "req_2")


async def test_an_error_that_calls_itself_an_answer_has_them_too(tmp_path: Path) -> None:
    says = sends(OF_OPENAI, body=b'{"error": {"message": "provider failed", "code": 429}}')
    async with fake_llm(says) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        with pytest.raises(openai.RateLimitError) as caught:
            await gateway.client.chat.completions.create(model="any", messages=HELLO)
    assert caught.value.request_id == "req_1"
    assert caught.value.response.headers["retry-after"] == "77"


async def test_a_limit_says_how_long_by_our_own_count(tmp_path: Path) -> None:
    """The pool knows more keys than the provider, and a client that came after half a second would be refused again."""
    told = {**OF_ANTHROPIC, "retry-after-ms": "500", "x-should-retry": "false"}
    async with before(tmp_path, MESSAGES, sends(told, status=429)) as (_, _, client):
        with pytest.raises(anthropic.RateLimitError) as caught:
            await client.messages.create(model="any", max_tokens=9, messages=HELLO)
    headers = caught.value.response.headers
    assert caught.value.request_id == "req_2"
    assert headers["x-should-retry"] == "false"
    assert headers["anthropic-ratelimit-unified-5h-status"] == "allowed"
    assert "retry-after-ms" not in headers
    assert headers["retry-after"] == "1"


async def test_a_refused_key_is_another_error_and_may_be_asked_again(tmp_path: Path) -> None:
    refuses = sends({**OF_OPENAI, "x-should-retry": "false"}, status=401)
    async with fake_llm(refuses) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        with pytest.raises(openai.InternalServerError) as caught:
            await gateway.client.chat.completions.create(model="any", messages=HELLO)
    assert caught.value.status_code == 503
    assert caught.value.request_id == "req_1"
    assert "x-should-retry" not in caught.value.response.headers


async def test_a_model_that_has_no_id_answers_under_the_turns(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT) as (llm, gateway, client):
        answer = await client.messages.create(model="any", max_tokens=9, messages=HELLO)
        llm.script = lambda _: Answer(status=500)
        with pytest.raises(anthropic.InternalServerError) as caught:
            await client.messages.create(model="any", max_tokens=9, messages=HELLO)
        good, bad = await gateway.turns()
    assert (answer._request_id, caught.value.request_id) == (good.id, bad.id)


async def test_counted_tokens_have_them_too(tmp_path: Path) -> None:
    async with before(tmp_path, MESSAGES, sends(OF_ANTHROPIC)) as (llm, _, client):
        llm.headers_of_counts = {**OF_ANTHROPIC, **SECRET}
        raw = await client.messages.with_raw_response.count_tokens(model="any", messages=HELLO)
    assert raw.request_id == "req_2"
    assert "set-cookie" not in raw.headers


def test_a_provider_that_says_too_much_is_cut_short() -> None:
    raw = [(b"X-RateLimit-%d" % number, b"1") for number in range(1000)]
    assert len(told_headers(raw)) == 48
    assert told_headers([(b"X-Request-Id", b"x" * 10_000)]) == {}
    assert told_headers([(b"X-Request-ID", b"caf\xe9")]) == {"x-request-id": "caf\xe9"}
