"""kill -9 of a real learner in the middle of updates, again and again."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from metaclaw.config_file import dump_settings
from metaclaw.journal.learning_status import AgentStatus, read_status
from metaclaw.journal.turns import TurnJournal
from tests.fakes.training_server import TrainingServer
from tests.learner.real_loop import settings_for
from tests.learner.talking import serving, talk

pytestmark = pytest.mark.anyio

NUM_KILLS = 3


class LearnerProcess:
    """``python -m metaclaw.learner`` on one home, killed without a word."""

    def __init__(self, line: str, log: Path) -> None:
        self._line = line
        self._log = log

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "metaclaw.learner"], stdin=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdin is not None
        self._process.stdin.write(self._line + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def stop(self) -> int:
        """End it as its parent's death does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(20)

    def wait(self) -> None:
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


async def test_no_turn_is_trained_twice_and_none_is_lost_whenever_the_learner_is_killed(tmp_path, trainer):
    """PITFALLS R2, R8 and the faults below B8: samples lost, steps counted twice, weights ahead of the record."""
    settings = settings_for(tmp_path, trainer, max_exchanges=16, learning_rate=0.005, passes=1)
    learner = LearnerProcess(dump_settings(settings), tmp_path / "learner.log")
    chance = random.Random(7)
    async with TurnJournal(settings.turns_db) as turns:
        learner.start()
        talking = asyncio.create_task(keep_talking(settings.learning_db, trainer, turns))
        for number in range(NUM_KILLS):
            before = version(settings.learning_db)
            await until(settings.learning_db, lambda now: now.last_update and now.last_update.state == "running")
            if number > 0:  # the first certainly hits an update
                await asyncio.sleep(chance.random() * 0.4)
            learner.kill()
            learner.start()
            await until(settings.learning_db, lambda now, before=before: now.serving > before)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        # What is left over is judged too; then every turn is somewhere, and nothing is claimed.
        await until(settings.learning_db, lambda now: now.judged == num_turns(settings.turns_db))
        assert learner.stop() == 0, (tmp_path / "learner.log").read_text()
        assert_nothing_lost_or_doubled(settings.learning_db, settings.turns_db)
        await talk(trainer, turns, serving(settings.learning_db, trainer), 1)


async def keep_talking(learning_db: Path, trainer: TrainingServer, turns: TurnJournal) -> None:
    while True:
        await talk(trainer, turns, serving(learning_db, trainer), 8)
        await asyncio.sleep(0.1)


async def until(learning_db: Path, condition: Callable[[AgentStatus], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not any(condition(status) for status in read_status(learning_db)):
        assert time.monotonic() < deadline, read_status(learning_db)
        await asyncio.sleep(0.01)


def version(learning_db: Path) -> int:
    return max((status.serving for status in read_status(learning_db)), default=0)


def num_turns(turns_db: Path) -> int:
    return len(rows(turns_db, "SELECT turn FROM samples"))


def rows(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def assert_nothing_lost_or_doubled(learning_db: Path, turns_db: Path) -> None:
    drawn = {turn for (turn,) in rows(turns_db, "SELECT turn FROM samples")}
    states = dict(rows(learning_db, "SELECT turn, state FROM samples"))
    assert set(states) == drawn
    assert "claimed" not in states.values()
    manifests = rows(learning_db, "SELECT turn, version FROM manifests")
    assert len(manifests) == len({turn for turn, _ in manifests})
    assert {turn for turn, _ in manifests} == {turn for turn, state in states.items() if state == "consumed"}
    updates = rows(learning_db, "SELECT state, count(*) FROM updates GROUP BY state")
    assert set(dict(updates)) <= {"committed", "aborted"}
    assert dict(updates)["aborted"] >= 1, "no kill hit an update"
    # The optimiser's own count says that no step of a killed update is in what was committed after it.
    steps = rows(
        learning_db,
        "SELECT version, json_extract(metrics, '$.step/step') FROM versions JOIN updates ON updates.id = update_id",
    )
    assert [step for _, step in sorted(steps)] == [number for number, _ in sorted(steps)]
    paths = rows(learning_db, "SELECT state_path FROM versions UNION SELECT sampler_path FROM versions")
    assert len(paths) == 2 * len(steps)
