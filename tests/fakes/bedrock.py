"""Bedrock's runtime behind a real HTTP endpoint: plain answers, event streams as AWS frames them, refusals."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]

EVENTS: tuple[Json, ...] = (
    {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "content": []}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_stop"},
)


@dataclass(slots=True)
class FakeBedrock:
    """The service, and what it saw: path, body, headers."""

    url: str = ""
    status: int = 200
    error: tuple[str, str] = ("", "")  # code and message
    retry_after: str = ""
    hold_after: int | None = None  # events; then wait for ``go_on``
    fails_after: int | None = None  # events; then an exception event
    breaks_after: int | None = None  # events; then close the socket
    requests: list[tuple[str, Json, dict[str, str]]] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    is_held: asyncio.Event = field(default_factory=asyncio.Event)
    was_left: asyncio.Event = field(default_factory=asyncio.Event)

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, await request.json(), dict(request.headers)))
        if self.status != 200:
            code, message = self.error
            headers = {"x-amzn-ErrorType": code} | ({"Retry-After": self.retry_after} if self.retry_after else {})
            return web.json_response({"message": message}, status=self.status, headers=headers)
        if request.path.endswith("/invoke"):
            return web.json_response({"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "Hello"}]})
        return await self._stream(request)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
        await response.prepare(request)
        try:
            for number, event in enumerate(EVENTS):
                if number == self.hold_after:
                    self.is_held.set()
                    await self.go_on.wait()
                if number == self.fails_after:
                    failure = json.dumps({"message": "too many tokens"}).encode()
                    await response.write(_frame({":exception-type": "throttlingException"}, "exception", failure))
                    return response
                if number == self.breaks_after:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
                await response.write(_frame({":event-type": "chunk"}, "event", payload))
        except (asyncio.CancelledError, ConnectionError):
            self.was_left.set()
            raise
        await response.write_eof()
        return response


@asynccontextmanager
async def fake_bedrock() -> AsyncGenerator[FakeBedrock]:
    """A running service."""
    service = FakeBedrock()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/model/{model}/{call}", service.invoke)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


def _frame(headers: dict[str, str], kind: str, payload: bytes) -> bytes:
    named = {**headers, ":content-type": "application/json", ":message-type": kind}
    block = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in named.items()
    )
    prelude = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    message = prelude + block + payload
    return message + struct.pack("!I", zlib.crc32(message))
