"""Running a command that is not trusted: no network, nothing to write to, limits, and an end.

Owns one run: the command's environment, its input and output, its limits and its death with all its children; refuses
to know why it is run and how it is shut in. Invariant: when ``run`` returns or raises, nothing of the command runs any
more (where there are namespaces; else nothing of its process group), and it has had no variable of our environment but
those that were given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal

from metaclaw.processes.confinement import Confinement, SandboxError, View, secret_places
from metaclaw.processes.footprint import Footprint, footprint
from metaclaw.processes.namespaces import FAILED_PREFIX, FAILED_STATUS

Ending = Literal["exit", "time", "memory", "output", "processes"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 65_536
_LOOK_S = 0.05
_DRAIN_S = 5.0
# Soft and hard, then the command in our place. `-u` is bash's name for processes, `-p` dash's.
_WITH_LIMITS = (
    'ulimit -c 0; ulimit -t "$1"; ulimit -f "$2"; ulimit -d "$3"; { ulimit -u "$4" || ulimit -p "$4"; } 2>/dev/null; '
    'shift 4; exec "$@"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a command may take. Memory and processes are those of all that it starts together."""

    time_s: float = 30.0
    memory_mb: int = 1024
    output_bytes: int = 1 << 20
    processes: int = 64
    file_mb: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended. ``status`` is its exit status where ``ending`` is ``exit`` (128 + n by signal n)."""

    ending: Ending
    status: int | None
    stdout: bytes
    stderr: bytes
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """Runs commands. ``hidden`` are files and directories that they must not see, beside where keys usually lie."""

    confinement: Confinement
    limits: Limits = field(default_factory=Limits)
    hidden: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()

    async def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        work: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run ``command`` in ``work``, which it may write to, or in a directory that goes with it.

        Raises ``SandboxError`` when it could not be shut in (it has not run then). Cancelling ends the command.
        """
        async with self._view(work) as view, _input(stdin) as given, _output() as out, _output() as err:
            inside = self.confinement.inside(view)
            started = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *self.confinement.wrap([*self._limited(), *command], view),
                stdin=given,
                stdout=out.end,
                stderr=err.end,
                env={"PATH": _PATH, "HOME": inside, "TMPDIR": inside, "LANG": "C.UTF-8", **(environment or {})},
                cwd=view.work or "/",
                start_new_session=True,
            )
            out.close_end()
            err.close_end()
            outcome = await self._until_its_end(process, out.reader, err.reader, started)
        if outcome.status == FAILED_STATUS and outcome.stderr.startswith(FAILED_PREFIX.encode()):
            said = outcome.stderr.decode(errors="replace").strip().removeprefix(FAILED_PREFIX)
            raise SandboxError(f"the command could not be shut in, and was not run: {said}")
        return outcome

    @asynccontextmanager
    async def _view(self, work: Path | None) -> AsyncGenerator[View]:
        view = View(work=work, hidden=(*secret_places(), *self.hidden), shown=self.shown)
        if work is not None or not self.confinement.needs_work:
            yield view
            return
        made = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="metaclaw-"))
        try:
            yield replace(view, work=made)
        finally:
            await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)

    def _limited(self) -> list[str]:
        limits = self.limits
        cpu_s, blocks, kilobytes = int(limits.time_s) + 1, limits.file_mb * 2048, limits.memory_mb * 1024
        numbers = (cpu_s, blocks, kilobytes, limits.processes + self.confinement.num_own)
        return ["/bin/sh", "-c", _WITH_LIMITS, "sh", *map(str, numbers)]

    async def _until_its_end(
        self,
        process: asyncio.subprocess.Process,
        out: asyncio.StreamReader,
        err: asyncio.StreamReader,
        started: float,
    ) -> Outcome:
        stdout, stderr = bytearray(), bytearray()
        reading = [asyncio.create_task(self._read(out, stdout)), asyncio.create_task(self._read(err, stderr))]
        watching = asyncio.create_task(self._watch(process.pid))
        try:
            ending = await self._first_ending(process, reading, watching)
        finally:
            watching.cancel()
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of zombies
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            overflowed = await _drain(reading)
        if ending == "exit" and overflowed:
            ending = "output"
        status = process.returncode if ending == "exit" else None
        return Outcome(
            ending=ending,
            status=128 - status if status is not None and status < 0 else status,
            stdout=bytes(stdout),
            stderr=bytes(stderr),
            took_s=time.monotonic() - started,
        )

    async def _first_ending(
        self,
        process: asyncio.subprocess.Process,
        reading: list[asyncio.Task[bool]],
        watching: asyncio.Task[Ending],
    ) -> Ending:
        exiting = asyncio.create_task(process.wait())
        waiting: set[asyncio.Task[bool] | asyncio.Task[Ending] | asyncio.Task[int]] = {*reading, watching, exiting}
        try:
            while True:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if any(task in done and task.result() for task in reading):
                    return "output"
                if exiting in done:
                    return "exit"
                if watching in done:
                    return watching.result()
                waiting -= done  # an output that was closed
        finally:
            exiting.cancel()

    async def _read(self, stream: asyncio.StreamReader, into: bytearray) -> bool:
        """Read until the end; return whether there was more than is kept."""
        while chunk := await stream.read(_CHUNK):
            into += chunk[: self.limits.output_bytes - len(into)]
            if len(into) >= self.limits.output_bytes:
                return True
        return False

    async def _watch(self, pid: int) -> Ending:
        deadline = time.monotonic() + self.limits.time_s
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return "time"
            await asyncio.sleep(min(_LOOK_S, left_s))
            taken: Footprint = await asyncio.to_thread(footprint, pid, skip=self.confinement.num_own)
            if taken.memory_bytes > self.limits.memory_mb << 20:
                return "memory"
            if taken.processes > self.limits.processes:
                return "processes"


async def _drain(reading: Sequence[asyncio.Task[bool]]) -> bool:
    """Read what is still in the pipes; only a process that got away keeps them open. Return whether it was too much."""
    read, _ = await asyncio.wait(reading, timeout=_DRAIN_S)
    for task in reading:
        task.cancel()
    return any(task.result() for task in read)


@dataclass(slots=True)
class _Output:
    """A pipe of our own: asyncio's would keep us waiting for whoever else holds its other end."""

    reader: asyncio.StreamReader
    end: int

    def close_end(self) -> None:
        if self.end >= 0:
            os.close(self.end)
            self.end = -1


@asynccontextmanager
async def _output() -> AsyncGenerator[_Output]:
    loop = asyncio.get_running_loop()
    ours, theirs = os.pipe()
    output = _Output(reader=asyncio.StreamReader(), end=theirs)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output.reader), os.fdopen(ours, "rb", 0)
    )
    try:
        yield output
    finally:
        output.close_end()
        transport.close()


@asynccontextmanager
async def _input(content: bytes) -> AsyncGenerator[IO[bytes]]:
    """A file without a name: what is never read keeps nobody waiting."""

    def write() -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        file.write(content)
        file.seek(0)
        return file

    file = await asyncio.to_thread(write)
    try:
        yield file
    finally:
        file.close()
