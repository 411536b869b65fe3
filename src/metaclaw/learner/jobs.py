"""What the learner does, as jobs that run side by side.

Owns when each job is tried again; refuses to know what any of them does. Invariant: a job that fails delays itself and
nothing else: it is tried again after a pause that grows, and the others never notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from metaclaw.errors import MetaClawError

_log = logging.getLogger(__name__)


class Job(Protocol):
    """Something to do again and again. ``poll_s`` is how long it rests when there was nothing to do."""

    @property
    def name(self) -> str: ...

    @property
    def poll_s(self) -> float: ...

    async def step(self) -> bool:
        """Do what is due; return whether there was anything. What can fail often and is foreseen is handled inside."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a job rests after failures in a row: twice as long each time."""

    first_s: float = 5.0
    longest_s: float = 300.0

    def longer(self, length_s: float) -> float:
        """The pause that follows one of ``length_s``; 0 is none before."""
        return min(self.longest_s, max(self.first_s, 2 * length_s))


async def run_jobs(jobs: Sequence[Job], *, patience: Patience | None = None) -> None:
    """Run all of ``jobs`` until this is cancelled; with none, wait for that."""
    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(_repeat(job, patience or Patience()), name=job.name)
        await asyncio.Event().wait()


async def _repeat(job: Job, patience: Patience) -> None:
    pause_s = 0.0
    while True:
        try:
            worked = await job.step()
        except Exception as error:  # noqa: BLE001 - the boundary of a background task: the other jobs go on
            pause_s = patience.longer(pause_s)
            is_foreseen = isinstance(error, MetaClawError)
            _log.warning("%s failed, next attempt in %g s: %s", job.name, pause_s, error, exc_info=not is_foreseen)
            await asyncio.sleep(pause_s)
            continue
        pause_s = 0.0
        await asyncio.sleep(0.0 if worked else job.poll_s)
