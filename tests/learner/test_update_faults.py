"""Updates that end as nobody foresaw: no sample stays claimed, and nothing goes on from weights of an unknown state."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from metaclaw.errors import JournalError
from metaclaw.journal.learning_records import Version
from metaclaw.journal.learning_status import read_status
from tests.fakes.trainer import VOCABULARY
from tests.learner.update_world import SETTINGS, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


@contextmanager
def failing(path: Path, *what: str) -> Generator[None]:
    """A disk that has no room for ``what``, such as ``INSERT ON versions``."""
    with closing(sqlite3.connect(path, isolation_level=None)) as disk:
        for number, one in enumerate(what):
            disk.execute(f"CREATE TRIGGER full{number} BEFORE {one} BEGIN SELECT raise(ABORT, 'the disk is full'); END")
        yield
        for number in range(len(what)):
            disk.execute(f"DROP TRIGGER full{number}")


def moved(world, version: Version, parent: str | None = None) -> float:
    """How far a version is from what it was made of, by the token that moved most."""
    return float(np.abs(world.trainer.logits(version.state_path) - world.trainer.logits(parent)).max())


ONE_STEP = SETTINGS.learning_rate / SETTINGS.warmup_steps


async def test_while_the_disk_is_full_a_version_that_was_examined_waits_and_is_not_trained_again(world):
    await world.converse(8)
    updater = world.updater()
    with failing(world.folder / "learning.db", "INSERT ON versions"), pytest.raises(JournalError, match="disk is full"):
        await updater.attempt("main")
    assert (world.states(), world.learning.serving("main")) == ({"pending": 8}, 0)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert world.trainer.calls.count("optim_step") == 1
    assert moved(world, version) == pytest.approx(ONE_STEP)


async def test_while_nothing_can_be_written_at_all_the_samples_are_owed_and_given_back_as_soon_as_it_can(world):
    await world.converse(8)
    updater = world.updater()
    full = ("INSERT ON versions", "UPDATE ON updates")
    with failing(world.folder / "learning.db", *full):
        for _ in range(2):
            with pytest.raises(JournalError, match="disk is full"):
                await updater.attempt("main")
        assert world.states() == {"claimed": 8}
        assert world.learning.agents_with_pending() == ["main"], "nobody would look after them"
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert (version.version, world.states()) == (1, {"consumed": 8})
    assert moved(world, version) == pytest.approx(ONE_STEP)


async def test_a_fault_that_nobody_foresaw_gives_the_samples_back_and_the_stepped_weights_up(world):
    await world.converse(8)
    updater = world.updater()
    world.gate.answers["main"] = ZeroDivisionError("a defect")
    with pytest.raises(ZeroDivisionError):
        await updater.attempt("main")
    assert (world.states(), world.trainer.num_open) == ({"pending": 8}, 0)
    assert read_status(world.folder / "learning.db")[0].last_update.reason == "a defect"
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert moved(world, version) == pytest.approx(ONE_STEP), "the update began with weights that had taken a step"
    assert len(world.trainer.saved) == 2, "what the failed update saved stays for ever"


async def test_who_is_stopped_while_samples_are_claimed_has_claimed_none(world):
    await world.converse(8)
    updater = world.updater()
    with closing(sqlite3.connect(world.folder / "learning.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the claim waits for it
        claims = asyncio.Event()
        world.trainer.when["open"] = claims.set  # that is what comes before
        attempt = asyncio.create_task(updater.attempt("main"))
        await claims.wait()
        await asyncio.sleep(0.1)
        attempt.cancel()
        await asyncio.sleep(0.1)
        other.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await attempt
    assert world.states() == {"pending": 8}
    assert isinstance(await updater.attempt("main"), Version)


async def test_who_is_stopped_while_the_first_version_is_saved_leaves_nothing_behind_at_the_trainer(world):
    named = "tinker://elsewhere/weights/good"
    world.trainer.saved[named] = np.linspace(-1, 1, VOCABULARY)
    await world.converse(8)
    updater = world.updater(resume_from=named)
    with failing(world.folder / "learning.db", "INSERT ON versions"), pytest.raises(JournalError):
        await updater.attempt("main")
    assert await updater.tidy()
    assert world.trainer.saved.keys() == {named}
    assert isinstance(await updater.attempt("main"), Version)
