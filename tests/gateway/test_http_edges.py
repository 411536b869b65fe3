"""Bad input and wrong doors: each is answered in OpenAI's error shape, and nothing is recorded of it."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from metaclaw.gateway import http_protocol
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "any", "messages": [{"role": "user", "content": "hello"}]}).encode()


async def error_of(gateway: RunningGateway, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    async with gateway.post(body, **headers) as response:
        return response.status, (await response.json())["error"]


MALFORMED = [
    (b'{"model": "any", "messages": [', "line 1, column 31"),
    (b'[{"role": "user"}]', "must be a JSON object, not an array"),
    (b"", "not valid JSON"),
    (b"\xff\xfe{}", "JSON|UTF-8"),
    (b'{"messages": [], "temperature": NaN}', "NaN"),
    (b'{"messages": [], "temperature": 1e999}', "too large for a float"),
    (gzip.compress(GOOD), "the body is compressed: send it as it is"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"seed": ' + b"9" * 5000 + b"}", "cannot be read"),
    (b'{"model": "any"}', "'messages' must be a list"),
    (b'{"messages": []}', "at least one message"),
    (b'{"messages": ["hello"]}', "messages[0] must be an object"),
    (b'{"messages": [{"content": "hello"}]}', "messages[0] has no 'role'"),
    (b'{"messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "'stream' must be true or false"),
    (b'{"messages": [{"role": "user", "content": "x"}], "n": 0}', "'n' must be a whole number"),
    (b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', "'temperature' must be a number"),
    (
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1' + b"0" * 400 + b"}",
        "'temperature' is too large a number",
    ),
]


LEADS_NOWHERE = [
    ("/chat/completions", "there is no route POST /chat/completions: the client's base URL must end in '/v1'"),
    ("/agents/ops/responses", "must end in '/v1'"),
    ("/v1/v1/messages", "has one '/v1' too many"),
    ("/v1/nothing", "there is no route POST /v1/nothing"),
]


async def test_a_base_url_that_leads_nowhere_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        for path, says in LEADS_NOWHERE:
            async with gateway.post(GOOD, path) as response:
                message = (await response.json())["error"]["message"]
            assert (response.status, says in message) == (404, True), message


async def test_a_malformed_body_is_400_and_says_what_is_wrong(tmp_path: Path) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for body, says in MALFORMED:
            status, error = await error_of(gateway, body)
            assert (status, error["type"]) == (400, "invalid_request_error"), body[:80]
            assert any(part in error["message"] for part in says.split("|")), error["message"]
        assert await gateway.turns() == []
    assert llm.requests == []


@pytest.mark.parametrize(
    "headers", [{"X-Agent-Id": "../etc"}, {"X-Session-Id": "two words"}, {"X-Turn-Type": "other"}], ids=str
)
async def test_an_identity_that_is_not_valid_is_400(tmp_path: Path, headers: dict[str, str]) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        status, error = await error_of(gateway, GOOD, **headers)
    assert (status, error["param"]) == (400, next(iter(headers)))


async def test_five_megabytes_pass_below_the_limit_and_are_413_above_it(tmp_path: Path) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "word " * 1_000_000}]}).encode()
    async with fake_llm() as llm:
        async with running_gateway(make_settings(tmp_path / "a", llm_url=llm.url)) as gateway:
            async with gateway.post(body) as response:
                assert response.status == 200
            assert llm.raw_requests == [body]
        small = make_settings(tmp_path / "b", llm_url=llm.url, proxy={"max_body_bytes": 4_000_000})
        async with running_gateway(small) as gateway:
            status, error = await error_of(gateway, body)
    assert (status, error["code"]) == (413, "request_too_large")


async def test_a_body_of_unannounced_length_is_cut_at_the_limit(tmp_path: Path) -> None:
    async def chunks() -> Any:
        for _ in range(100):
            yield b" " * 1000

    settings = make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1", proxy={"max_body_bytes": 5000})
    async with running_gateway(settings) as gateway:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with gateway.http.post(gateway.url + CHAT, data=chunks(), headers=headers) as response:
            assert response.status == 413


async def _too_large(gateway: RunningGateway, rest: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request that announces far more than is allowed; ``rest`` of it is sent whatever is answered."""
    url = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: 1000000000\r\n\r\n".encode() + rest)
    return reader, writer


async def _send_on(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 10_000)
        await writer.drain()


async def test_who_first_sends_all_of_it_learns_that_it_was_too_large(tmp_path: Path) -> None:
    """`urllib` and its like read nothing before that: a reset in between would be all that they see."""
    settings = make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1", proxy={"max_body_bytes": 5000})
    async with running_gateway(settings) as gateway, asyncio.timeout(30):
        reader, writer = await _too_large(gateway, b"x" * 16_000_000)
        await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()


def _in_chunks(body: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:], b""))


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_in_one_piece", [False, True])
async def test_an_offer_of_http2_is_declined_and_the_request_answered(
    tmp_path: Path, is_chunked: bool, is_in_one_piece: bool
) -> None:
    """Java's own client makes it with each request; httptools alone would lose the body."""
    text = "\r\n\r\nPOST / HTTP/1.1\r\nUpgrade: h2c\r\n"
    body = json.dumps({"model": "any", "messages": [{"role": "user", "content": text}]}).encode()
    length = "Transfer-encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    head = (
        f"POST {CHAT} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n{length}\r\nHost: localhost\r\n"
        f"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n"
    ).encode()
    sent = _in_chunks(body) if is_chunked else body
    async with (
        fake_llm() as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        asyncio.timeout(30),
    ):
        url = urlsplit(gateway.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        for _ in range(2):  # the connection stays what it was
            writer.write(head + sent if is_in_one_piece else head)
            if not is_in_one_piece:
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.write(sent)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            size = next(line for line in answer.split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(size.split(b":")[1]))
        writer.close()
        assert llm.raw_requests == [body, body]


@pytest.mark.parametrize("limit", [("MAX_REST_BYTES", 100_000), ("REST_TIMEOUT_S", 0.01)])
async def test_the_rest_of_what_is_too_large_is_read_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, float]
) -> None:
    monkeypatch.setattr(http_protocol, *limit)
    settings = make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1", proxy={"max_body_bytes": 5000})
    async with running_gateway(settings) as gateway, asyncio.timeout(30):
        reader, writer = await _too_large(gateway, b"x")
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            await _send_on(writer)
        writer.close()


async def test_doors_that_are_not_there(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1")) as gateway:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with gateway.http.get(f"{gateway.url}/v2/nothing", headers=headers) as response:
            assert response.status == 404
            assert "no route GET /v2/nothing" in (await response.json())["error"]["message"]
        async with gateway.http.get(gateway.url + CHAT, headers=headers) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
            assert (await response.json())["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"X-API-Key": TOKEN}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
    ],
    ids=str,
)
async def test_nothing_but_health_answers_without_the_token(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """PITFALLS S1: the proxy was an open relay."""
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for method, path in (("POST", CHAT), ("POST", f"/agents/ops{CHAT}"), ("GET", "/v1/models")):
            data = GOOD if method == "POST" else None
            async with gateway.http.request(method, gateway.url + path, data=data, headers=headers) as response:
                assert response.status == status
                if status == 401:
                    assert (await response.json())["error"]["code"] == "invalid_api_key"
        async with gateway.http.get(f"{gateway.url}/healthz") as response:
            assert response.status == 200
    assert len(llm.requests) == (2 if status == 200 else 0)


async def test_a_request_that_is_none_takes_nobody_s_place(tmp_path: Path) -> None:
    """PITFALLS P9: what was begun for a request was not cleaned up after it."""
    limits = {"limits": {"max_concurrent": 1}}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url, proxy=limits)) as gateway:
        for body in (b"{", b'{"messages": []}', b'{"model": "any"}'):
            assert (await error_of(gateway, body))[0] == 400
        async with gateway.post(GOOD) as response:
            assert response.status == 200


async def test_a_client_that_reads_nothing_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "UNREAD_TIMEOUT_S", 0.05)
    piece = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 500_000}}]}).encode() + b"\n\n"
    answer = Answer(events=(piece,) * 40)  # more than the system takes for a reader who does not read
    async with fake_llm(lambda _: answer) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        url = urlsplit(gateway.url)
        _, writer = await asyncio.open_connection(url.hostname, url.port, limit=1000)
        body = json.dumps({**json.loads(GOOD), "stream": True}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(30):
            await llm.was_left.wait()
            while gateway.recorder.num_open:  # noqa: ASYNC110 - it is the gateway's own count
                await asyncio.sleep(0.01)
        [turn] = await gateway.turns()
        writer.close()
    assert turn.state == "cut"


async def test_a_client_that_reads_a_large_answer_slowly_has_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is written at once, and writing goes on only when it was read: minutes, by a telephone's line."""
    monkeypatch.setattr(http_protocol, "UNREAD_TIMEOUT_S", 2.0)
    message = {"role": "assistant", "content": "x" * 30_000_000}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = Answer(body=json.dumps({"id": "c", "object": "chat.completion", "choices": [choice]}).encode())
    async with fake_llm(lambda _: answer) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        url = urlsplit(gateway.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=100_000)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
        async with asyncio.timeout(60):
            num_bytes = 0
            while piece := await reader.read(1_000_000):
                num_bytes += len(piece)
                await asyncio.sleep(0.03)
        writer.close()
    assert num_bytes > 30_000_000
