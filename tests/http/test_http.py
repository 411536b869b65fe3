"""What every server of ours shares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from metaclaw import errors
from metaclaw.chat.sse import encode_event
from metaclaw.config import ProxySettings, is_loopback
from metaclaw.http.auth import require_token
from metaclaw.http.body import parse_json_object, read_body
from metaclaw.http.errors import error_answer, error_body, exception_handlers
from metaclaw.http.sse import ClientLeftError, ForwardingResponse, unless_client_leaves
from metaclaw.http.whole import WholeResponse


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("headers", [{"x-api-key": "key"}, {"authorization": "bearer  key "}], ids=str)
def test_the_token_lets_in_by_either_header(headers: dict[str, str]) -> None:
    require_token(headers, "key")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, "key"), ({"x-api-key": "wrong"}, "key"), ({"x-api-key": "key"}, ""), ({"x-api-key": "tml-key"}, "key"),
     ({"authorization": "Basic key"}, "key"), ({"authorization": "Bearer "}, ""), ({"x-api-key": "kéy"}, "key")],
)  # fmt: skip
def test_anything_but_the_token_is_refused(headers: dict[str, str], expected: str) -> None:
    with pytest.raises(errors.AuthenticationError):
        require_token(headers, expected)


def test_only_loopback_may_be_bound_without_a_token_of_the_users() -> None:
    """PITFALLS S1: bound to 0.0.0.0 with no authentication."""
    for host in ("127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost", "LocalHost"):
        assert is_loopback(host)
        ProxySettings(host=host)
    for host in ("0.0.0.0", "::", "[::]", "192.168.1.4", "example.org", ""):
        assert not is_loopback(host)
        ProxySettings.model_validate({"host": host, "api_key": "chosen"})
        with pytest.raises(ValueError, match="api_key"):
            ProxySettings(host=host)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (errors.AuthenticationError("x"), 401, {"WWW-Authenticate": "Bearer"}),
        (errors.InvalidRequestError("x", param="n"), 400, {}),
        (errors.RequestTooLargeError("x"), 413, {"Connection": "close"}),
        (errors.BodyTimeoutError("x"), 408, {"Connection": "close"}),
        (errors.RateLimitError("x", retry_after_s=2.5), 429, {"Retry-After": "3"}),
        (errors.BudgetError("x", retry_after_s=86_400), 429, {"Retry-After": "86400"}),
        (errors.NotFoundError("x"), 404, {}),
        (errors.ConflictError("x"), 409, {}),
        (errors.OverloadedError("x"), 429, {"Retry-After": "1"}),
        (errors.UpstreamError("x", status=401), 503, {"Retry-After": "5"}),
        (errors.UpstreamError("x", status=403), 503, {"Retry-After": "5"}),
        (errors.UpstreamError("x", status=402), 503, {"Retry-After": "5"}),
        (errors.UpstreamError("x", status=409), 503, {"Retry-After": "5"}),
        (errors.UpstreamError("x", status=502), 503, {"Retry-After": "5"}),
        (errors.UpstreamError("x", status=422, retry_after_s=3), 422, {}),
        (errors.UpstreamError("x", status=429, retry_after_s=2.1), 429, {"Retry-After": "3"}),
        (errors.UpstreamError("x", status=503, retry_after_s=9), 503, {"Retry-After": "9"}),
        (errors.UpstreamError("x", status=529, retry_after_s=9), 503, {"Retry-After": "9"}),
        (errors.UpstreamError("x", status=429), 429, {"Retry-After": "5"}),
        (errors.UpstreamError("x", status=503), 503, {"Retry-After": "5"}),
        (errors.UpstreamError("x", status=302), 503, {"Retry-After": "5"}),
        (errors.UpstreamError("x"), 503, {"Retry-After": "5"}),
        (errors.JournalError("x"), 500, {}),
        (errors.MetaClawError("x"), 500, {}),
    ],
)
def test_each_error_has_one_status_in_every_dialect_but_for_overload(
    error: errors.MetaClawError, status: int, headers: dict[str, str]
) -> None:
    openai, tinker = error_answer(error, "openai"), error_answer(error, "tinker")
    assert (openai.status, openai.headers) == (tinker.status, tinker.headers) == (status, headers)
    assert tinker.body == {"error": "x", "detail": "x", "category": "server" if status >= 500 else "user"}
    assert set(openai.body["error"]) == {"message", "type", "param", "code"}
    assert openai.body["error"]["code"] == error.code
    anthropic = error_answer(error, "anthropic")
    assert (anthropic.status, anthropic.headers) == (529 if status == 503 else status, headers)
    assert anthropic.body["type"] == "error"
    assert anthropic.body["error"]["message"] == "x"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_anthropics_clients_tell_errors_by_type(status: int, kind: str) -> None:
    assert error_body("anthropic", status=status, message="x", code="y", param="z") == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
    }


def test_routes_of_one_application_may_have_errors_of_several_dialects() -> None:
    app = Starlette(
        exception_handlers=exception_handlers(
            lambda request: "anthropic" if request.url.path == "/messages" else "openai"
        )
    )
    with TestClient(app) as client:
        assert client.get("/messages").json()["error"]["type"] == "not_found_error"
        assert client.get("/chat").json()["error"]["code"] == "not_found"


def test_an_upstreams_own_code_reaches_the_client() -> None:
    error = errors.UpstreamError("x", status=400, detail={"code": "context_length_exceeded", "secret": "no"})
    body = error_answer(error, "openai").body["error"]
    assert body["code"] == "context_length_exceeded"
    assert "secret" not in body


def test_a_bug_is_500_without_internals_and_unknown_routes_have_the_dialects_shape(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def bug(_request: Request) -> Response:
        raise RuntimeError("password=hunter2")

    async def echo(request: Request) -> Response:
        return JSONResponse(parse_json_object(await read_body(request.receive, request.headers, 100)))

    routes = [Route("/bug", bug), Route("/echo", echo, methods=["POST"])]
    app = Starlette(routes=routes, exception_handlers=exception_handlers("tinker"))
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/bug")
        assert (answer.status_code, "hunter2" in answer.text) == (500, False)
        message = "there is no route GET /none"
        assert client.get("/none").json() == {"error": message, "detail": message, "category": "user"}
        assert client.get("/echo").status_code == 405
        assert client.post("/echo", content=b'{"a": 1}').json() == {"a": 1}
        assert client.post("/echo", content=b"{" + b" " * 100).status_code == 413
    assert "RuntimeError in GET /bug" in caplog.text


def test_an_event_keeps_its_lines() -> None:
    assert encode_event("a\nb", "x") == b"event: x\ndata: a\ndata: b\n\n"


class Chunks:
    """Chunks that wait for the test, and remember that they were closed."""

    def __init__(self) -> None:
        self.is_closed = False
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        yield b"first"
        yield b""
        await self.go_on.wait()
        yield b"second"

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.anyio
@pytest.mark.parametrize("client_leaves", [True, False])
async def test_chunks_are_sent_as_they_come_and_closed_however_it_ends(client_leaves: bool) -> None:
    sent: asyncio.Queue[Any] = asyncio.Queue()
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    chunks = Chunks()
    running = asyncio.create_task(ForwardingResponse(chunks)({"type": "http"}, receive, sent.put))
    assert (await sent.get())["status"] == 200
    assert (await sent.get())["body"] == b"first"
    assert not chunks.is_closed
    if client_leaves:
        left.set()
    else:
        chunks.go_on.set()
    await running
    rest = [sent.get_nowait()["body"] for _ in range(sent.qsize())]
    assert rest == ([] if client_leaves else [b"second", b""])
    assert chunks.is_closed


@pytest.mark.anyio
async def test_work_is_cancelled_when_its_client_leaves() -> None:
    was_cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    async def receive() -> Any:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    with pytest.raises(ClientLeftError):
        await unless_client_leaves(receive, work())
    assert was_cancelled.is_set()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_body_is_read_in_every_encoding_that_json_has(encoding: str) -> None:
    assert parse_json_object('{"größe": [1, 2.5, "漢"]}'.encode(encoding)) == {"größe": [1, 2.5, "漢"]}


def test_half_a_surrogate_pair_is_read_as_it_was_sent() -> None:
    assert parse_json_object(rb'{"half": "\ud800"}') == {"half": "\ud800"}


def test_a_whole_answer_says_what_starlettes_own_says() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kind = WholeResponse if scope["path"] == "/ours" else Starlettes
        await kind(b"body", content_type="application/json", headers={"X-Turn": "1"}, status=201)(scope, receive, send)

    class Starlettes(Response):
        def __init__(self, body: bytes, *, content_type: str, headers: dict[str, str], status: int) -> None:
            super().__init__(body, media_type=content_type, headers=headers, status_code=status)

    client = TestClient(app)
    ours, theirs = client.get("/ours"), client.get("/theirs")
    assert (ours.status_code, ours.content) == (201, b"body") == (theirs.status_code, theirs.content)
    assert sorted(ours.headers.raw) == sorted(theirs.headers.raw)
