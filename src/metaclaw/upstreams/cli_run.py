"""One run of a vendor's command-line program.

Owns the process, its folder and its end; refuses to know what its lines mean. Invariant: when a run is closed its whole
process group is killed and its folder goes, whoever closes it and whenever; what a killed gateway left goes at the next
run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.errors import UpstreamError
from metaclaw.locks import exclusive_lock, is_locked

_MAX_LINE_BYTES = 16 * 1024 * 1024
_MAX_ERROR_BYTES = 2000
_PREFIX, _HELD = "run-", "held"
_LEFT_AFTER_S = 60.0  # without a holder; a new one is not held yet


class RunFolder:
    """A new folder in ``parent`` with ``files``, for nobody else to read, and an empty ``work``; held until removed."""

    def __init__(self, parent: Path, files: Mapping[str, str]) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_leftovers(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self._hold = contextlib.ExitStack()
        try:
            self._handle = self._hold.enter_context(exclusive_lock(self.path / _HELD, wait=False))
            (self.path / "work").mkdir()
            for name, text in files.items():
                (self.path / name).write_text(text, encoding="utf-8")
        except BaseException:
            self.remove()
            raise

    def note(self, pid: int) -> None:
        """Leave word of the process that works in it, in the few bytes that whoever cleans up after us needs."""
        os.write(self._handle, b"%d" % pid)

    def remove(self) -> None:
        """Delete it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._hold.close()


class CliRun:
    """A process that is answering."""

    def __init__(self, process: asyncio.subprocess.Process, folder: RunFolder, name: str) -> None:
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
            with contextlib.suppress(ValueError, RecursionError):
                if (found := object_or_none(json.loads(line))) is not None:
                    return found

    async def complaint(self) -> str:
        """The end of what it wrote on its error stream, and its exit code."""
        code = await self._process.wait()
        text = await asyncio.to_thread(_tail, self._folder.path / "errors")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"exit code {code}" + (f": {lines[-1][:500]}" if lines else "")

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def bury(self) -> None:
        """Wait for the killed process, and remove its folder."""
        await self._process.wait()
        await asyncio.to_thread(self._folder.remove)


async def start_run(
    name: str, command: str, arguments: Sequence[str], env: Mapping[str, str], folder: RunFolder
) -> CliRun:
    """Start ``command`` in the empty folder of ``folder``, which goes when it ends. Raises ``UpstreamError``."""
    try:
        with await asyncio.to_thread((folder.path / "errors").open, "wb") as errors:
            process = await asyncio.create_subprocess_exec(
                command,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=folder.path / "work",
                env=dict(env),
                start_new_session=True,
                limit=_MAX_LINE_BYTES,
            )
    except BaseException as error:
        await asyncio.to_thread(folder.remove)
        if isinstance(error, OSError):
            raise UpstreamError(f"{name} cannot be started: {command}: {error.strerror}") from error
        raise
    folder.note(process.pid)
    return CliRun(process, folder, name)


def _remove_leftovers(parent: Path) -> None:
    # What a gateway that was killed could not remove: it holds what a client's system prompt said.
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            is_old = time.time() - folder.stat().st_mtime > _LEFT_AFTER_S
            if is_old and not is_locked(folder / _HELD):
                _end_leftover(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _end_leftover(folder: Path) -> None:
    # It would go on talking to the vendor, with the user's token. Without /proc nobody knows whose the id is by now.
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / _HELD).read_bytes())
        if Path(f"/proc/{pid}/cwd").samefile(folder / "work"):
            os.killpg(pid, signal.SIGKILL)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_MAX_ERROR_BYTES:].decode("utf-8", "replace")
    except OSError:
        return ""
