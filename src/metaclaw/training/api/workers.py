"""The two child processes, engine and sampler: started, spoken to, and started again when they die.

Owns processes, pipes and restarts; refuses to know what a command means, and HTTP. Invariant: every call ends. A
call that a dead process held fails with ``EngineError``; nothing is sent twice behind the caller's back. Each
process has a generation number of its own: whoever remembers that something was loaded remembers the generation
too, and a call that names one never reaches a later process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from metaclaw.errors import EngineError, InvalidRequestError, UpstreamError
from metaclaw.training.commands import (
    Cancel,
    Command,
    ForwardBackward,
    Generate,
    WorkerReady,
    command_frame,
    decode_frame,
    encode_frame,
)

State = Literal["loading", "ready", "restarting", "failed", "stopped"]

_LENGTH = struct.Struct("<I")
_MAX_FRAME_BYTES = 1 << 30
_QUICK_DEATH_S = 60.0  # a process that lived shorter than this counts towards giving up
_MAX_QUICK_DEATHS = 5
_MAX_BACKOFF_S = 10.0
_STOP_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """How a worker is started: its name, the fields of its first frame, and what its environment adds to ours.

    ``role`` is the argument of ``metaclaw.training.worker``; several roles can do a sampler's work.
    """

    name: Literal["engine", "sampler"]
    start: Mapping[str, Any]
    environment: Mapping[str, str]
    role: str = ""  # the name itself


class Watch(Protocol):
    """Looks at one command and its answers, and changes neither."""

    def frame(self, frame: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Worker:
    """One supervised child. ``run`` must be running in a task for anything to happen.

    ``watch`` is called for each command and hears its answers.
    """

    def __init__(self, spec: WorkerSpec, watch: Callable[[Command], Watch] | None = None) -> None:
        self.name = spec.name
        self.state: State = "loading"
        self.generation = 0
        self.detail = ""  # why it is not ready, for /readyz
        self._spec = spec
        self._watch = watch or _Unwatched
        self._ready: WorkerReady | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._changed = asyncio.Condition()
        self._inboxes: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        self._last_id = 0

    @property
    def max_context(self) -> int:
        """Of the loaded model; 0 while it was never loaded."""
        return 0 if self._ready is None else self._ready.max_context

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Keep a process alive until cancelled, or until it died too often too quickly."""
        quick_deaths = 0
        try:
            while True:
                started_at = time.monotonic()
                self.detail = await self._live_once()
                quick_deaths = quick_deaths + 1 if time.monotonic() - started_at < _QUICK_DEATH_S else 1
                # A first process that fails (no such model, no such device) fails the second time too.
                never_worked = self._ready is None and self.generation > 0
                if never_worked or quick_deaths >= _MAX_QUICK_DEATHS:
                    break
                _log.error("the %s is down (%s); starting it again", self.name, self.detail)
                await self._become("restarting")
                await asyncio.sleep(min(0.1 * 4 ** (quick_deaths - 1), _MAX_BACKOFF_S))
            _log.critical("the %s does not stay up (%s); giving up", self.name, self.detail)
            await self._become("failed")
        finally:
            await self._stop_process()
            if self.state != "failed":
                await self._become("stopped")

    async def ready(self, timeout_s: float | None = None) -> WorkerReady:
        """What the process says of the loaded model; waits while it loads or restarts.

        Raises ``UpstreamError`` (503) when it has given up, or is not ready in time.
        """
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.state in ("ready", "failed", "stopped"))
        except TimeoutError as error:
            raise UpstreamError(f"the {self.name} is {self.state}", status=503, retry_after_s=5.0) from error
        if self.state != "ready" or self._ready is None:
            raise UpstreamError(f"the {self.name} is down: {self.detail or self.state}", status=503, retry_after_s=30.0)
        return self._ready

    async def call(self, command: Command, *, generation: int | None = None, share: str = "") -> dict[str, Any]:
        """Send ``command`` once the process is ready and return its answer. ``share`` is whose time it takes."""
        answer: dict[str, Any] = {}
        async with contextlib.aclosing(self._exchange(command, generation, share)) as frames:
            async for frame in frames:
                answer = frame.get("ok", answer)
        return answer

    async def stream(
        self, command: Command, *, generation: int | None = None, share: str = ""
    ) -> AsyncGenerator[dict[str, Any]]:
        """Send ``command`` and yield its events. Closing the generator early cancels the command in the worker."""
        async with contextlib.aclosing(self._exchange(command, generation, share)) as frames:
            async for frame in frames:
                if "event" in frame:
                    yield frame

    async def _exchange(self, command: Command, generation: int | None, share: str) -> AsyncGenerator[dict[str, Any]]:
        watch = self._watch(command)
        try:
            async with contextlib.aclosing(self._unwatched(command, generation, share)) as frames:
                async for frame in frames:
                    watch.frame(frame)
                    if "error" in frame:
                        raise _failure(self.name, frame["error"])
                    yield frame
        finally:
            watch.close()

    async def _unwatched(self, command: Command, generation: int | None, share: str) -> AsyncGenerator[dict[str, Any]]:
        await self.ready()
        if generation is not None and generation != self.generation:
            raise self._died()
        self._last_id += 1
        frame_id, inbox = self._last_id, asyncio.Queue[dict[str, Any] | None]()
        self._inboxes[frame_id] = inbox
        finished = False
        try:
            await self._send(command_frame(frame_id, command, share=share))
            while not finished:
                frame = await inbox.get()
                if frame is None:
                    finished = True
                    raise self._died()
                finished = "ok" in frame or "error" in frame
                yield frame
        finally:
            del self._inboxes[frame_id]
            if not finished:
                self._abandon(command, frame_id)

    def _abandon(self, command: Command, frame_id: int) -> None:
        # Generations and passes can be stopped half-way; any other command runs to its end and is not listened to.
        process = self._process
        if command.op not in (Generate.op, ForwardBackward.op) or process is None:
            return
        if process.stdin is None or process.stdin.is_closing():
            return
        self._last_id += 1
        process.stdin.write(_packed(command_frame(self._last_id, Cancel(target=frame_id))))

    async def _live_once(self) -> str:
        """Start a process and pump its answers until it ends; return why it ended, or was never there."""
        try:
            process = self._process = await self._spawn()
        except OSError as error:  # the machine is out of processes or memory for the moment
            return f"it cannot be started: {error}"
        self.generation += 1
        assert process.stdout is not None
        reason = ""
        try:
            await self._send({"id": 0, "op": "start", **self._spec.start, **self._same_device()})
            while (frame := await _read_frame(process.stdout)) is not None:
                if frame["id"] == 0:
                    reason = await self._started(frame)
                elif (inbox := self._inboxes.get(frame["id"])) is not None:
                    inbox.put_nowait(frame)
        except EngineError:
            pass  # it ended before it could be told anything; its exit says why
        except OSError as error:
            reason = str(error)
            _kill(process)  # it lives on, and would hold the memory that its successor needs
        finally:
            # Whatever comes next, nobody may wait for this process any longer, or take it for a living one.
            self.state = "restarting"
            for inbox in self._inboxes.values():
                inbox.put_nowait(None)
        exit_reason = await self._exit_reason(process)
        return reason or exit_reason

    async def _started(self, frame: dict[str, Any]) -> str:
        if "error" in frame:
            return str(frame["error"]["message"])
        body: dict[str, Any] = frame["ok"]
        body["end_tokens"] = tuple(body["end_tokens"])
        self._ready = WorkerReady(**body)
        await self._become("ready")
        return ""

    def _same_device(self) -> dict[str, str]:
        # Where a GPU is gone, "auto" would be the CPU from then on: a model that takes minutes for an answer.
        return {} if self._ready is None or "device" not in self._spec.start else {"device": self._ready.device}

    async def _spawn(self) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C in the terminal goes to us, and we end the children in order.
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "metaclaw.training.worker", self._spec.role or self.name,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._spec.environment}, start_new_session=True, limit=1 << 20,
        )  # fmt: skip

    async def _send(self, frame: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise self._died()
        # Thousands of arrays take a while to pack. The process of before is written to: a later one is not meant.
        is_large = frame["op"] == ForwardBackward.op
        data = await asyncio.to_thread(_packed, frame) if is_large else _packed(frame)
        try:
            process.stdin.write(data)
            await process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:  # uvloop says RuntimeError for a closed pipe
            raise self._died() from error

    async def _exit_reason(self, process: asyncio.subprocess.Process) -> str:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _STOP_S)
        if process.returncode is None:
            _kill(process)
            await process.wait()
            return "it closed its output and had to be killed"
        code = process.returncode
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    async def _stop_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            _kill(process)
            await process.wait()

    async def _become(self, state: State) -> None:
        async with self._changed:
            self.state = state
            self._changed.notify_all()

    def _died(self) -> EngineError:
        return EngineError(f"the {self.name} process ended while it held this request; it is being started again")


class _Unwatched:
    def __init__(self, command: Command) -> None: ...
    def frame(self, frame: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


def _failure(name: str, error: Mapping[str, Any]) -> Exception:
    message = str(error["message"])
    return InvalidRequestError(message) if error["caller_fault"] else EngineError(f"{name}: {message}")


def _packed(frame: dict[str, Any]) -> bytes:
    data = encode_frame(frame)
    return _LENGTH.pack(len(data)) + data


async def _read_frame(stream: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next frame, or ``None`` at the end of the stream, in the middle of a frame too."""
    try:
        (size,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        if size > _MAX_FRAME_BYTES:
            raise OSError(f"it sent a frame of {size} bytes; something else writes to its standard output")
        data = await stream.readexactly(size)
    except asyncio.IncompleteReadError:
        return None
    try:
        frame = decode_frame(data)
        has_id = "id" in frame
    except (ValueError, TypeError) as error:
        raise OSError(f"it sent a frame that cannot be read: {error!r}") from error
    if not has_id:
        raise OSError("it sent a frame without an id")
    return frame


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
