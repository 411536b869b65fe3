"""Jobs side by side: one that fails delays itself and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from metaclaw.errors import JournalError
from metaclaw.learner.jobs import Patience, run_jobs

pytestmark = pytest.mark.anyio


@dataclass
class Counting:
    """Does its outcomes in turn, the last for ever, and says when it was asked often enough."""

    name: str
    outcomes: list[bool | Exception]
    wanted: int = 3
    poll_s: float = 0.0
    asked: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(self) -> bool:
        self.asked += 1
        if self.asked >= self.wanted:
            self.done.set()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def run_until(*jobs: Counting, until: Counting, patience: Patience | None = None) -> None:
    running = asyncio.create_task(run_jobs(jobs, patience=patience))
    await asyncio.wait_for(until.done.wait(), 60)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_job_that_fails_keeps_nobody_else_from_working():
    broken, sound = Counting("broken", [ZeroDivisionError("unforeseen")]), Counting("sound", [False], wanted=50)
    await run_until(broken, sound, until=sound)
    assert broken.asked == 1, "it rests after a failure"


async def test_a_job_that_failed_is_tried_again_and_what_it_was_is_said(caplog):
    job = Counting("remembering", [JournalError("the disk is full"), KeyError("odd"), True], wanted=4)
    await run_until(job, until=job, patience=Patience(first_s=0.0))
    assert "remembering failed, next attempt in 0 s: the disk is full" in caplog.text
    foreseen, unforeseen = caplog.records[:2]
    assert (bool(foreseen.exc_info), bool(unforeseen.exc_info)) == (False, True)


async def test_without_a_job_it_waits_for_its_end():
    running = asyncio.create_task(run_jobs([]))
    done, _ = await asyncio.wait({running}, timeout=0.05)
    assert not done
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_pauses_double_up_to_the_longest():
    pauses, patience = [0.0], Patience(first_s=5, longest_s=60)
    for _ in range(6):
        pauses.append(patience.longer(pauses[-1]))
    assert pauses[1:] == [5, 10, 20, 40, 60, 60]
