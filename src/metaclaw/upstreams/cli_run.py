"""One run of a vendor's command-line program.

Owns the process, its folder and its end; refuses to know what its lines mean. Invariant: when a run is closed its whole
process group is killed and its folder goes, whoever closes it and whenever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.errors import UpstreamError

_MAX_LINE_BYTES = 16 * 1024 * 1024
_MAX_ERROR_BYTES = 2000


class CliRun:
    """A process that is answering."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, name: str) -> None:
        self._process = process
        self._folder = folder
        self._name = name

    async def ask(self, prompt: str) -> None:
        """Hand over the prompt."""
        assert self._process.stdin is not None
        # A program that ends before it has read everything says why on its other streams.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(prompt.encode())
            await self._process.stdin.drain()
        self._process.stdin.close()

    async def next_line(self) -> JsonObject | None:
        """The next line that is an object, ``None`` when the program has ended. Raises ``UpstreamError``."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError as error:
                raise UpstreamError(f"{self._name} wrote a line of more than {_MAX_LINE_BYTES} bytes") from error
            if not line:
                return None
            with contextlib.suppress(ValueError):
                if (found := object_or_none(json.loads(line))) is not None:
                    return found

    async def complaint(self) -> str:
        """The end of what it wrote on its error stream, and its exit code."""
        code = await self._process.wait()
        text = await asyncio.to_thread(_tail, self._folder / "errors")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"exit code {code}" + (f": {lines[-1][:500]}" if lines else "")

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def bury(self) -> None:
        """Wait for the killed process, and remove its folder."""
        await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def start_run(name: str, command: str, arguments: Sequence[str], env: Mapping[str, str], folder: Path) -> CliRun:
    """Start ``command`` in the empty folder of ``folder``, which goes when it ends. Raises ``UpstreamError``."""
    try:
        with await asyncio.to_thread((folder / "errors").open, "wb") as errors:
            process = await asyncio.create_subprocess_exec(
                command,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=folder / "work",
                env=dict(env),
                start_new_session=True,
                limit=_MAX_LINE_BYTES,
            )
    except BaseException as error:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise UpstreamError(f"{name} cannot be started: {command}: {error.strerror}") from error
        raise
    return CliRun(process, folder, name)


def make_folder(parent: Path, files: Mapping[str, str]) -> Path:
    """A new folder of one run with ``files`` in it, which nobody else can read, and an empty ``work``."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    (folder / "work").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_MAX_ERROR_BYTES:].decode("utf-8", "replace")
    except OSError:
        return ""
