"""What lies between two days: the memory reads, the judge comes to an end, an update is asked for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from metaclaw.bench.nights import Night
from metaclaw.journal.train_steps import TrainAnswer, TrainSteps

pytestmark = pytest.mark.anyio


@dataclass
class SlowReader:
    """Has read a session when it was asked for the third time."""

    asked: list[float] = field(default_factory=list)

    async def read_for_memories(self, session: str, *, agent: str, wait_s: float) -> bool:
        assert (session, agent) == ("bench-1", "baker")
        self.asked.append(wait_s)
        await asyncio.sleep(0.01)
        return len(self.asked) == 3


def night(home: Path, reader: SlowReader, said: list[str], *, train_every: int = 0, patience_s: float = 30.0) -> Night:
    return Night(
        model=reader, learning_db=home / "learning.db", requests_db=home / "requests.db", agent="baker",
        remembers=True, train_every=train_every, patience_s=patience_s, say=said.append, still_s=0.1,
    )  # fmt: skip


async def test_the_memory_is_asked_until_it_has_read_the_day(tmp_path: Path) -> None:
    reader, said = SlowReader(), list[str]()
    await night(tmp_path, reader, said).after("bench-1", num_days=1)
    assert len(reader.asked) == 3
    assert said == []
    assert not (tmp_path / "requests.db").exists(), "no update was asked for"


async def test_nobody_waits_longer_than_told_and_what_was_not_done_is_said(tmp_path: Path) -> None:
    reader, said = SlowReader(asked=[0.0] * 3), list[str]()
    await night(tmp_path, reader, said, train_every=1, patience_s=0.1).after("bench-1", num_days=1)
    assert said == [
        "the memory has not read this day within 0.1 s: it is read later", "no answer of the learner in time",
    ]  # fmt: skip


async def test_an_update_is_asked_for_after_so_many_days_for_that_agent(tmp_path: Path) -> None:
    said, steps = list[str](), TrainSteps(tmp_path / "requests.db")

    async def learner() -> str:
        while not (waiting := await asyncio.to_thread(steps.waiting, time.time())):  # noqa: ASYNC110 - another process has no event for us
            await asyncio.sleep(0.05)
        answer = TrainAnswer(status="ok", agent="baker", reason="version 3", step=3)
        await asyncio.to_thread(steps.answer, waiting[0].id, answer, time.time())
        return waiting[0].agent

    learning = asyncio.create_task(learner())
    between = night(tmp_path, SlowReader(asked=[0.0, 0.0]), said, train_every=2)
    await between.after("bench-1", num_days=1)
    assert said == []
    between = night(tmp_path, SlowReader(asked=[0.0, 0.0]), said, train_every=2)
    await between.after("bench-1", num_days=2)
    assert await learning == "baker"
    assert said == ["ok: version 3"]
