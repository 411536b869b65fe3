"""One vLLM as our child: started, waited for, watched, and ended with everything it started.

Owns the process, its port, its key and its log; refuses to know what is asked of it. Invariant: it answers on the
loopback interface to a key made for this start alone, and no process of it outlives us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import socket
import sys
from pathlib import Path

import aiohttp

from metaclaw.errors import EngineError
from metaclaw.training.samplers.vllm import keeper
from metaclaw.training.samplers.vllm.client import VllmClient
from metaclaw.training.samplers.vllm.options import BASE_NAME, VllmOptions, arguments, environment

_START_S = 1800.0  # reading a large model from a slow disk
_POLL_S = 0.5
_HEALTH_EVERY_S = 5.0
_MAX_FAILED_CHECKS = 3
_LOG_TAIL_BYTES = 20_000
_WARM_UP_TOKENS = 8
_ERROR = re.compile(r"^(?!.*WARNING).*Error: ")


class VllmServer:
    """A running vLLM. ``client`` speaks to it."""

    def __init__(self, process: asyncio.subprocess.Process, client: VllmClient, log: Path) -> None:
        self.client = client
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, options: VllmOptions, session: aiohttp.ClientSession, *, scratch: Path) -> VllmServer:
        """Start vLLM, its log in ``scratch``; returns when it serves, warm. Raises ``EngineError`` with its reason."""
        port, api_key = _free_port(), secrets.token_urlsafe(32)
        log = scratch / "vllm.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", keeper.__file__, *arguments(options, port=port),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=output,
                env=environment(options, api_key=api_key), cwd=scratch, start_new_session=True,
            )  # fmt: skip
        server = cls(process, VllmClient(session, f"http://127.0.0.1:{port}", api_key), log)
        try:
            async with asyncio.timeout(_START_S):
                await server._until_healthy()
                await server._warm_up()
        except TimeoutError as error:
            await server.stop()
            raise EngineError(f"vLLM did not start within {_START_S:.0f} s; see {log}") from error
        except BaseException:
            await server.stop()
            raise
        return server

    async def watch(self, *, every_s: float = _HEALTH_EVERY_S) -> str:
        """Return why vLLM can serve no longer, once that is so."""
        failed = 0
        while failed < _MAX_FAILED_CHECKS:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._ended(), every_s)
            failed = 0 if await self.client.is_healthy() else failed + 1
        return f"vLLM fails its health check; see {self._log}"

    async def stop(self) -> None:
        """End vLLM and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the group has the keeper's number
        await self._process.wait()

    async def _until_healthy(self) -> None:
        ended = asyncio.ensure_future(self._ended())
        try:
            while not await self.client.is_healthy():
                done, _ = await asyncio.wait({ended}, timeout=_POLL_S)
                if done:
                    raise EngineError(ended.result())
        finally:
            ended.cancel()

    async def _warm_up(self) -> None:
        """It compiles at the first requests of each kind: 13 to 42 s that no caller should wait for."""
        tokens = list(range(_WARM_UP_TOKENS))
        await self.client.score(BASE_NAME, tokens)
        for params in ({"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9, "top_k": 4, "seed": 1}):
            warm = {"max_tokens": 2, "ignore_eos": True, "logprobs": 0, **params}
            async with contextlib.aclosing(self.client.stream(BASE_NAME, tokens, warm)) as chunks:
                async for _ in chunks:
                    pass

    async def _ended(self) -> str:
        assert self._process.stdout is not None
        code = (await self._process.stdout.read()).decode().strip()
        await self._process.wait()
        said = await asyncio.to_thread(_last_error, self._log)
        how = f"vLLM ended with code {code}" if code else "vLLM was killed"
        return f"{how}{f' ({said})' if said else ''}; see {self._log}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_error(log: Path) -> str:
    """The last line of ``log`` that tells an error."""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines()
        return next((line.strip()[:300] for line in reversed(lines) if _ERROR.search(line)), "")
    return ""
