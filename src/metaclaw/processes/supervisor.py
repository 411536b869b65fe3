"""Child programs kept running: started with their settings, restarted when they die, ended with their parent.

Owns processes, back-off and shutdown; refuses to know what the programs do. Invariant: no child outlives the
supervisor, however that ends, because the children end when their standard input does; and a program that keeps dying
is given up with a reason, never restarted for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaclaw.errors import ConfigError, MetaClawError, ProcessError

EXIT_BAD_SETTINGS = 2  # what a program of ours ends with when its settings cannot work; trying again cannot help
_NOT_STARTED = 127  # as shells say it
SAID_ABOVE = "; the line it wrote above says why"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run. When an essential program is given up, everything stops."""

    name: str
    command: tuple[str, ...]
    is_essential: bool = True
    takes_changes: bool = False  # reads other settings from its input while it runs; another one is started anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a program may die, and how long its end may take."""

    first_delay_s: float = 0.2
    longest_delay_s: float = 5.0
    max_deaths: int = 5  # within ``window_s``
    window_s: float = 60.0
    stop_s: float = 10.0  # after the end of its input, then again half of it after SIGTERM


class Supervisor:
    """Runs programs until ``stop`` is called or an essential one is given up."""

    def __init__(
        self,
        programs: Sequence[Program],
        settings_line: str,
        *,
        report: Report,
        on_change: Callable[[Mapping[str, int | None]], None] = lambda _: None,
        patience: Patience | None = None,
        inherited_fds: Sequence[int] = (),
    ) -> None:
        self._programs = programs
        self._line = settings_line.encode() + b"\n"
        self._report = report
        self._on_change = on_change
        self._patience = patience or Patience()
        self._inherited_fds = inherited_fds
        self._stopping = asyncio.Event()
        self._failure: MetaClawError | None = None
        self._pids: dict[str, int | None] = {program.name: None for program in programs}
        self._running: dict[str, Process] = {}
        self._changed = {program.name: asyncio.Event() for program in programs}

    def stop(self) -> None:
        """End every child gracefully; ``run`` returns then. Call it on the event loop's thread."""
        self._stopping.set()

    def change(self, settings_line: str) -> None:
        """Have the programs go on with other settings. Call it on the event loop's thread."""
        self._line = settings_line.encode() + b"\n"
        for program in self._programs:
            process = self._running.get(program.name)
            if not program.takes_changes:
                self._changed[program.name].set()
            elif process is not None and process.stdin is not None:
                process.stdin.write(self._line)  # one that dies meanwhile is started with it

    async def run(self) -> None:
        """Keep the programs running. Raises ``ConfigError`` or ``ProcessError`` when an essential one was given up."""
        async with asyncio.TaskGroup() as group:
            for program in self._programs:
                group.create_task(self._keep_running(program))
        if self._failure:
            raise self._failure

    async def _keep_running(self, program: Program) -> None:
        deaths: list[float] = []
        is_first_run = True
        while not self._stopping.is_set():
            self._changed[program.name].clear()
            code = await self._run_once(program)
            if code is None:
                is_first_run = False
                continue
            deaths = [died for died in deaths if time.monotonic() - died < self._patience.window_s]
            deaths.append(time.monotonic())
            if self._is_hopeless(program, code, len(deaths), is_first_run=is_first_run):
                if self._stopping.is_set() or program.is_essential:
                    return
                deaths = []
                await self._either(self._stopping.wait(), self._changed[program.name].wait())
                continue
            is_first_run = False
            delay = min(self._patience.first_delay_s * 2 ** (len(deaths) - 1), self._patience.longest_delay_s)
            self._report(f"the {program.name} ended with {_described(code)}; starting it again in {delay:.1f} s")
            await self._sleep(delay)

    async def _run_once(self, program: Program) -> int | None:
        """Its exit code; ``None`` when we ended it: we are stopping, or it is to have other settings."""
        try:
            process = await self._start(program)
        except OSError as error:  # no memory for one more process, perhaps, after others were killed for want of it
            self._report(f"the {program.name} cannot be started: {error.strerror}")
            return _NOT_STARTED
        try:
            return await self._wait_for_death(program, process)
        finally:
            self._running.pop(program.name, None)
            self._note(program, None)

    async def _start(self, program: Program) -> Process:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            stdin=PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is ours alone to answer
            **_passed(self._inherited_fds),
        )
        self._running[program.name] = process
        self._note(program, process.pid)
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it died already; its exit code says more
            process.stdin.write(self._line)
            await process.stdin.drain()
        return process

    async def _wait_for_death(self, program: Program, process: Process) -> int | None:
        dead = asyncio.ensure_future(process.wait())
        try:
            await self._either(asyncio.shield(dead), self._stopping.wait(), self._changed[program.name].wait())
            if dead.done():
                return dead.result()
            await self._end(process)
            return None
        finally:
            dead.cancel()

    @staticmethod
    async def _either(*events: Awaitable[Any]) -> None:
        waiting = {asyncio.ensure_future(event) for event in events}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def _end(self, process: Process) -> None:
        assert process.stdin is not None
        process.stdin.close()
        for patience_s, harder in (
            (self._patience.stop_s, process.terminate),
            (self._patience.stop_s / 2, process.kill),
        ):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), patience_s)
                return
            with contextlib.suppress(ProcessLookupError):
                harder()
        await process.wait()

    def _is_hopeless(self, program: Program, code: int, num_deaths: int, *, is_first_run: bool) -> bool:
        if code == EXIT_BAD_SETTINGS and is_first_run:
            # Not only for essential programs: whoever just started us is there to read it.
            self._give_up(ConfigError(f"the {program.name} refused its settings{SAID_ABOVE}"))
            return True
        if num_deaths < self._patience.max_deaths:
            return False
        error = ProcessError(f"the {program.name} died {num_deaths} times in a row, last with {_described(code)}")
        if program.is_essential:
            self._give_up(error)
        else:
            self._report(f"{error}; it is not started again, the rest goes on without it")
        return True

    def _give_up(self, error: MetaClawError) -> None:
        self._failure = self._failure or error
        self._stopping.set()

    async def _sleep(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)

    def _note(self, program: Program, pid: int | None) -> None:
        self._pids[program.name] = pid
        self._on_change(dict(self._pids))


def _passed(fds: Sequence[int]) -> dict[str, Any]:
    return {} if sys.platform == "win32" else {"pass_fds": tuple(fds)}


def _described(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"
