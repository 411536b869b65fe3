"""Connections to models, as a server sees them that ends its answers a moment after their last word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
LAST_WORDS = f"{len(LAST):x}\r\n".encode() + LAST + b"\r\n"
END = b"0\r\n\r\n"


@asynccontextmanager
async def late_to_end() -> AsyncGenerator[tuple[str, list[int]]]:
    """Its address, and how many requests came on each of its connections."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(asked)
        asked.append(0)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(length.partition(b":")[2]))
                asked[number] += 1
                writer.write(HEAD + LAST_WORDS)
                await asyncio.sleep(0.05)
                writer.write(END)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", asked


async def test_a_connection_is_used_again_though_its_answer_ended_after_its_last_word(tmp_path: Path) -> None:
    """PITFALLS P4: a TLS handshake for each request. Who stops reading at ``[DONE]`` has one for each, too."""
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
    async with late_to_end() as (url, asked), running_gateway(make_settings(tmp_path, llm_url=url)) as gateway:
        for _ in range(4):
            async with gateway.post(body) as response:
                assert (await response.read()).endswith(b"[DONE]\n\n")
    assert asked == [4]
