"""Training in windows: what is allowed, what runs, and stopping it when the window closes.

Owns the state over time and the update that runs; refuses to know how an update is made and what opens a window.
Invariant: an update that nobody asked for is cancelled at the first look that finds no window, and while one runs there
is a look every ``LOOK_S``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from metaclaw.learner.outcomes import Outcome, Waiting
from metaclaw.learner.windows.conditions import Verdict
from metaclaw.learner.windows.machine import Running, Seen, State, following
from metaclaw.learner.windows.state_file import WindowState, read_state, write_state

_log = logging.getLogger(__name__)

LOOK_S = 0.3  # while an update runs
_REST_S = 5.0
_WRITE_EVERY_S = 15.0  # also when nothing changed, so that what is read says how things stand now


class Conditions(Protocol):
    """Says whether a window is open."""

    async def look(self, *, was_open: bool) -> Verdict: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Update:
    agent: str
    is_asked: bool
    task: asyncio.Task[Outcome]


class Windows:
    """The windows of one learner, and a job that keeps an eye on them. One update runs at a time."""

    name = "training windows"
    poll_s = _REST_S

    def __init__(
        self,
        *,
        conditions: Conditions,
        state_file: Path,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._conditions = conditions
        self._state_file = state_file
        self._look_s = look_s
        self._clock = clock
        self._looking = asyncio.Lock()
        self._update: _Update | None = None
        self._state: State
        self._state, self._since = self._resumed()
        self._verdict: Verdict | None = None
        self._written_at = 0.0

    @property
    def state(self) -> State:
        return self._state

    async def step(self) -> bool:
        """Look, so that the state is right also while there is nothing to train."""
        await self._look()
        return False

    async def is_open(self) -> bool:
        """Whether an update may begin now."""
        # While there is none, the job's own looks are often enough for a window to be found.
        if self._state != "idle" or self._verdict is None:
            await self._look()
        return self._state == "window_open"

    async def run(self, agent: str, work: Coroutine[Any, Any, Outcome], *, is_asked: bool = False) -> Outcome:
        """Do ``work``, an update of ``agent``, and stop it when the window closes, unless somebody asked for it."""
        task = asyncio.create_task(work)
        self._update = _Update(agent=agent, is_asked=is_asked, task=task)
        stopped = ""
        try:
            # Not before the first look: most attempts find at once that too little waits, once a second all night,
            # and each would be told, written to the disk and logged as an update.
            while not (await asyncio.wait({task}, timeout=self._look_s))[0]:
                await self._look()
                if self._state == "pausing" and not stopped:
                    stopped = self._verdict.why if self._verdict else "the window closed"
                    task.cancel(f"the window closed: {stopped}")
            if task.cancelled() and stopped:
                return Waiting(reason=f"training was stopped: {stopped}")
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait(
                {task}
            )  # when this is cancelled, or a look failed: the work must have ended all the same
            self._update = None

    def _resumed(self) -> tuple[State, float]:
        """What is true of the state that the learner of before left: nothing runs, and the same window may be open."""
        left, now = read_state(self._state_file), self._clock()
        if left is None or left.verdict is None or now >= (left.verdict.closes_at or now + 1):
            return "idle", now
        was_open = left.state in ("window_open", "updating")
        return following(left.state, Seen(is_open=was_open, running="nothing")), left.since

    async def _look(self) -> None:
        async with self._looking:
            was_open = self._state in ("window_open", "updating")
            verdict = await self._conditions.look(was_open=was_open)
            self._verdict = verdict
            state = following(self._state, Seen(is_open=verdict.is_open, running=self._running()))
            changed = state != self._state
            if changed:
                _log.info("training: %s -> %s: %s", self._state, state, verdict.why)
                self._state, self._since = state, self._clock()
            if changed or not 0 <= self._clock() - self._written_at < _WRITE_EVERY_S:
                await self._write(verdict)

    def _running(self) -> Running:
        if self._update is None or self._update.task.done():
            return "nothing"
        return "asked" if self._update.is_asked else "in_window"

    async def _write(self, verdict: Verdict) -> None:
        update = self._update
        state = WindowState(
            state=self._state, since=self._since, why=verdict.why, agent=update.agent if update else None,
            is_asked=bool(update and update.is_asked), pid=os.getpid(), verdict=verdict,
        )  # fmt: skip
        self._written_at = self._clock()
        try:
            await asyncio.to_thread(write_state, self._state_file, state)
        except OSError as error:
            _log.warning(
                "%s cannot be written, so `metaclaw scheduler status` is out of date: %s", self._state_file, error
            )
