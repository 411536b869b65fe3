"""The process that has a cloud's SDK: started when it is first needed, asked over its pipes, ended as a group.

Owns the process and the frames; refuses to know what is asked. Invariant: every call ends, by an answer or an
``SdkError``; a call that names a process never reaches a later one; the key goes by standard input and is in neither
arguments nor environment; nothing of ours but ``clouds.programs`` can be imported there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import struct
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import metaclaw
from metaclaw.clouds.cloud import PACKAGES, Cloud
from metaclaw.errors import BackendError
from metaclaw.proxy_variables import PROXY_VARIABLES

_LENGTH = struct.Struct("<I")
_MAX_FRAME_BYTES = 1 << 30
_END_S = 3.0
# Its packages are not ours: of our own it sees the three empty packages above the programs, and no site-packages.
_BOOT = """
import importlib, sys, types
root, program = sys.argv[1:]
for name, place in (("metaclaw", ""), ("metaclaw.clouds", "/clouds"), ("metaclaw.clouds.programs", "/clouds/programs")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [root + place]
importlib.import_module("metaclaw.clouds.programs." + program).main()
"""
_KEPT_VARIABLES = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE",
    *PROXY_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT",
)  # fmt: skip


class SdkError(BackendError):
    """The SDK failed. ``kind`` is one of ``clouds.programs.serving.KINDS``."""

    def __init__(self, message: str, *, kind: str = "failed") -> None:
        super().__init__(message)
        self.kind = kind


class SdkChild:
    """One process at a time. It is started by the first call, and anew by the first call after its end."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.generation = 0
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._starting = asyncio.Lock()

    async def call(
        self, op: str, *, generation: int | None = None, times: float = 1.0, **asked: object
    ) -> dict[str, Any]:
        """The answer to ``op``. Raises ``SdkError``.

        ``generation`` is that of the process that must answer it; none waits longer than so many ``times``
        ``rl.remote_timeout_s``.
        """
        what, cloud = f"{op} at {self.cloud.where}", self.cloud
        try:
            async with asyncio.timeout(cloud.timeout_s * times):
                async with self._starting:
                    if generation is not None and (generation != self.generation or self._process is None):
                        raise SdkError(f"{what}: the process with its SDK was started anew, what it held is lost")
                    if self._process is None:
                        await self._start()
                return await self._ask(what, {"op": op, **asked})
        except TimeoutError:
            limit = f"rl.remote_timeout_s: {cloud.timeout_s:g} s" + (f", {times:.1f} times" if times != 1 else "")
            raise SdkError(f"{what} took too long ({limit})") from None

    async def close(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_S)
        _kill_group(process)
        await process.wait()
        if self._reader is not None:
            await self._reader

    async def _start(self) -> None:
        cloud = self.cloud
        root = Path(str(metaclaw.__file__)).parent
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                str(cloud.python), "-E", "-s", "-W", "ignore", "-c", _BOOT, str(root), cloud.program,
                stdin=PIPE, stdout=PIPE, env={**kept, "TINKER_TELEMETRY": "0", "TOKENIZERS_PARALLELISM": "false"},
                start_new_session=True, limit=1 << 20,
            )  # fmt: skip
        except OSError as error:
            raise SdkError(f"{cloud.python} cannot be started: {error}") from error
        self._process, self.generation = process, self.generation + 1
        self._reader = asyncio.create_task(self._read_all(process))
        start: dict[str, object] = {
            "op": "start",
            "module": cloud.name,
            "api_key": cloud.api_key,
            "base_url": cloud.base_url,
        }
        try:
            await self._ask(f"starting the SDK of {cloud.name} with {cloud.python}", start)
        except BaseException:
            await self.close()
            raise

    async def _ask(self, what: str, frame: dict[str, object]) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None:
            raise SdkError(f"{what}: its process has ended")
        self._last_id += 1
        number, answer = self._last_id, asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            data = await asyncio.to_thread(lambda: json.dumps({"id": number, **frame}).encode())
            process.stdin.write(_LENGTH.pack(len(data)) + data)
            await process.stdin.drain()
            reply: dict[str, Any] = await answer
        except (ConnectionError, RuntimeError) as error:  # uvloop says RuntimeError for a closed pipe
            raise SdkError(f"{what}: its process ended") from error
        finally:
            self._waiting.pop(number, None)
        if "error" in reply:
            raise self._explained(what, reply["error"])
        return reply["ok"]

    def _explained(self, what: str, error: dict[str, Any]) -> SdkError:
        kind, message = str(error["kind"]), str(error["message"]).replace(self.cloud.api_key, "***")
        if kind == "key":
            return SdkError(f"{what}: the key was refused. Set rl.api_key to your key of {self.cloud.name}", kind=kind)
        if kind == "not installed":
            package = PACKAGES.get(self.cloud.name, "metaclaw[rl]")
            message = (
                f"it has no SDK ({message}): pip install '{package}' there, or set rl.sdk_python to a Python that has"
            )
        return SdkError(f"{what}: {message}", kind=kind)

    async def _read_all(self, process: Process) -> None:
        assert process.stdout is not None
        # Whatever cannot be read was written by something else, and nobody can be answered any longer.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError, LookupError, TypeError):
            while True:
                (size,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
                if size > _MAX_FRAME_BYTES:
                    break  # something else writes there
                frame: dict[str, Any] = json.loads(await process.stdout.readexactly(size))
                waiting = self._waiting.get(frame["id"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(frame)
        _kill_group(process)
        await process.wait()
        if self._process is process:
            self._process = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the process with the SDK ended"))


def packed(numbers: Any) -> str:
    """A little-endian array as text, as ``clouds.programs.serving`` reads it."""
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def unpacked(text: str) -> bytes:
    """The bytes of an array that came as text."""
    return base64.b64decode(text)


def _kill_group(process: Process) -> None:
    # Also after its own end: what it started may live on in its group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode is None:
            process.kill()
