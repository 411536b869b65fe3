"""When a vLLM is given up. What stands for vLLM here is a program that sleeps, under the real keeper."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from metaclaw.training.samplers.vllm import keeper
from metaclaw.training.samplers.vllm.client import VllmClient
from metaclaw.training.samplers.vllm.server import VllmServer

pytestmark = pytest.mark.anyio


class Health:
    """Answers GET /health with ``status``; 0 is no answer."""

    def __init__(self) -> None:
        self.status = 200
        self.num_asked = 0
        self.was_asked = asyncio.Condition()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if self.status:
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
        writer.close()
        async with self.was_asked:
            self.num_asked += 1
            self.was_asked.notify_all()

    async def asked_again(self, times: int) -> None:
        async with self.was_asked:
            enough = self.num_asked + times
            await self.was_asked.wait_for(lambda: self.num_asked >= enough)


@contextlib.asynccontextmanager
async def served(tmp_path: Path, program: str) -> AsyncGenerator[tuple[VllmServer, Health]]:
    health, log = Health(), tmp_path / "vllm.log"
    web = await asyncio.start_server(health.answer, "127.0.0.1", 0)
    port = web.sockets[0].getsockname()[1]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", keeper.__file__, sys.executable, "-c", program,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=output, start_new_session=True,
        )  # fmt: skip
    async with web, aiohttp.ClientSession() as session:
        server = VllmServer(process, VllmClient(session, f"http://127.0.0.1:{port}", "key"), log)
        try:
            yield server, health
        finally:
            await server.stop()


@pytest.mark.parametrize("status", [503, 0])
async def test_a_vllm_that_lives_but_does_not_serve_is_given_up_and_ended(tmp_path: Path, status: int) -> None:
    async with served(tmp_path, "import time; time.sleep(600)") as (server, health):
        watching = asyncio.create_task(server.watch(every_s=0.01))
        await health.asked_again(4)
        assert not watching.done()
        health.status = status
        assert "health check" in await watching
    assert server._process.returncode is not None


async def test_one_failed_check_is_forgiven(tmp_path: Path) -> None:
    async with served(tmp_path, "import time; time.sleep(600)") as (server, health):
        watching = asyncio.create_task(server.watch(every_s=0.01))
        for _ in range(4):
            health.status = 503
            await health.asked_again(1)
            health.status = 200
            await health.asked_again(2)
        assert not watching.done()
        watching.cancel()


async def test_a_vllm_that_ends_says_its_last_error(tmp_path: Path) -> None:
    program = "import sys; print('INFO fine', file=sys.stderr); raise ValueError('no room for the KV cache')"
    async with served(tmp_path, program) as (server, _):
        reason = await server.watch()
    assert "code 1" in reason
    assert "ValueError: no room for the KV cache" in reason
