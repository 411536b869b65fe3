"""Weights that were saved by who was killed before they were anybody's: found by their names, deleted, counted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metaclaw.config_file import dump_settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.extras import load_backend
from metaclaw.learner.retention import Retention
from tests.fakes.training_server import TrainingServer
from tests.learner.real_loop import settings_for
from tests.learner.talking import serving, talk
from tests.learner.test_kills import LearnerProcess, rows, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

DAY_S = 86_400
OURS = "SELECT name, sampler_path IS NOT NULL, num_deleted, gone_at IS NOT NULL FROM saved_weights ORDER BY begun_at"


def lying(trainer: TrainingServer, *, name: str) -> list[str]:
    """Which halves of what was saved under ``name`` are whole at the training server."""
    return sorted(path.parent.name for path in (trainer.data_dir / "checkpoints").glob(f"*/*/{name}"))


def ledger(learning_db: Path) -> list[tuple]:
    """What is written down so far, also while the file is being made."""
    if not learning_db.exists() or not rows(learning_db, "SELECT 1 FROM sqlite_master WHERE name = 'saved_weights'"):
        return []
    return rows(learning_db, OURS)


async def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_what_a_killed_learner_had_saved_and_not_committed_is_deleted_when_it_starts_again(tmp_path, trainer):
    settings = settings_for(tmp_path, trainer)
    gate = settings.rl.gate.model_copy(update={"max_replays": 96, "min_answers": 96, "max_answer_tokens": 128})
    slow = settings.model_copy(update={"rl": settings.rl.model_copy(update={"gate": gate})})
    stranger = await load_backend(settings.rl).open(None)
    of_a_person = await stranger.save("main-v1-u1-00000000")  # as another home's might be called
    log = tmp_path / "learner.log"
    async with TurnJournal(settings.turns_db) as turns:
        learner = LearnerProcess(dump_settings(slow), log)
        learner.start()
        await talk(trainer, turns, serving(settings.learning_db, trainer), 16)
        await wait_until(lambda: any(is_saved for _, is_saved, *_ in ledger(settings.learning_db)))
        learner.kill()
        ((lost, *_),) = rows(settings.learning_db, OURS)
        assert rows(settings.learning_db, "SELECT * FROM versions") == []
        assert lying(trainer, name=lost) == ["sampler_weights", "weights"]
        learner = LearnerProcess(dump_settings(settings), log)
        learner.start()
        await until(settings.learning_db, lambda now: now.serving == 1)
        await wait_until(lambda: not lying(trainer, name=lost))
        assert learner.stop() == 0, log.read_text()
    first, second = rows(settings.learning_db, OURS)
    assert first == (lost, 1, 2, 1)
    assert second[1:] == (1, 0, 0)
    assert lying(trainer, name=second[0]) == ["sampler_weights", "weights"], "a version has it"
    assert "2 old checkpoints are deleted" in log.read_text()
    await stranger.warm(of_a_person.sampler_path)
    await stranger.close()


KILLED = """
import asyncio, sys
from pathlib import Path
from metaclaw.config_file import parse_settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.learner.extras import load_backend
from metaclaw.learner.saving import Saving


async def main():
    settings = parse_settings(sys.stdin.readline())
    run = await load_backend(settings.rl).open(None)
    print("open", flush=True)
    sys.stdin.readline()
    with LearningJournal.open(settings.learning_db) as journal:
        await Saving(journal, lambda: "cut").save("main", run, "main-v1-u1")

asyncio.run(main())
"""


class Saver:
    """A process that saves, once, under ``main-v1-u1-cut``."""

    def __init__(self, line: str) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-c", KILLED], stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        self._say(line)
        assert self._process.stdout.readline() == "open\n"

    def save(self) -> None:
        self._say("")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


async def test_half_of_what_is_saved_after_its_owner_was_killed_is_deleted_too_and_looked_for_again(tmp_path, trainer):
    settings = settings_for(tmp_path, trainer)
    saver = Saver(dump_settings(settings))
    with trainer.suspended("engine"):  # it takes the request, and does what it asks when nobody is there any more
        saver.save()
        await wait_until(lambda: ledger(settings.learning_db))
        await asyncio.sleep(1.0)  # so that the request is on its way
        saver.kill()
        assert lying(trainer, name="main-v1-u1-cut") == []
        with LearningJournal.open(settings.learning_db) as journal:
            assert journal.recover().weights == 1
            early = Retention(journal, load_backend(settings.rl), clock=time.time)
            assert await early.delete_unowned() == 0
            assert journal.unowned(), "what is not there yet may still come"
    await wait_until(lambda: lying(trainer, name="main-v1-u1-cut"))
    with LearningJournal.open(settings.learning_db) as journal:
        now = Retention(journal, load_backend(settings.rl), clock=time.time)
        num_deleted = 0
        for _ in range(100):  # it lies there a moment before the server lists it
            num_deleted += await now.delete_unowned()
            if num_deleted:
                break
            await asyncio.sleep(0.05)
        assert num_deleted == 1
        assert lying(trainer, name="main-v1-u1-cut") == []
        assert journal.unowned(), "the other half may still come"
        late = Retention(journal, load_backend(settings.rl), clock=lambda: time.time() + 2 * DAY_S)
        assert await late.delete_unowned() == 0
        assert journal.unowned() == []
    assert rows(settings.learning_db, OURS) == [("main-v1-u1-cut", 0, 1, 1)]
