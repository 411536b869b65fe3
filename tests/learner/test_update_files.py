"""Which weights are kept."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from importlib import resources

import pytest

from metaclaw.errors import BackendError, ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.learner.outcomes import Rejected
from metaclaw.learner.versions import roll_back
from tests.fakes.trainer import FakeTrainer
from tests.learner.update_world import opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


def numbers_of(paths: Iterable[str]) -> set[int]:
    return {int(match[1]) for path in paths if (match := re.search(r"-v(\d+)-", path))}


async def test_only_the_last_versions_and_the_ancestors_of_what_serves_keep_their_weights(world):
    updater = world.updater()
    for _ in range(6):
        await world.converse(8)
        await updater.attempt("main")
    assert numbers_of(world.trainer.saved) == {3, 4, 5, 6}
    assert len(world.trainer.saved) == 2 * 4
    roll_back(world.learning, "main", 3)
    await world.converse(8)
    version = await updater.attempt("main")
    assert (version.version, version.parent) == (7, 3)
    assert numbers_of(world.trainer.saved) == {3, 5, 6, 7}
    listed = world.learning.versions("main")
    assert [one.version for one in listed if one.deleted_at is None] == [3, 5, 6, 7]
    with pytest.raises(ConflictError, match="version 2 of 'main' were deleted"):
        roll_back(world.learning, "main", 2)
    assert world.learning.serving("main") == 7


async def test_a_version_that_teaches_keeps_its_weights_however_old_it_is(world):
    """Else learning would stop for ever, a few updates after `rl.opd.model: main@2` was set."""
    updater = world.updater(teacher=("main", 2))
    for _ in range(6):
        await world.converse(8)
        await updater.attempt("main")
    assert numbers_of(world.trainer.saved) == {2, 3, 4, 5, 6}


async def test_deleting_that_fails_fails_no_update_and_is_made_up_for(world, caplog):
    updater = world.updater()
    for _ in range(6):
        await world.converse(8)
        world.trainer.failures["delete"] = BackendError("gone")
        assert isinstance(await updater.attempt("main"), Version)
    assert numbers_of(world.trainer.saved) == {1, 2, 3, 4, 5, 6}
    assert "4 old checkpoints are still to be deleted: gone" in caplog.text
    await world.converse(8)
    await updater.attempt("main")
    assert numbers_of(world.trainer.saved) == {4, 5, 6, 7}


async def test_what_an_update_saved_that_did_not_commit_is_deleted(world):
    updater = world.updater()
    await world.converse(8)
    world.trainer.failures["warm"] = BackendError("gone")
    with pytest.raises(BackendError):
        await updater.attempt("main")
    (orphan,) = {path for path in world.trainer.saved if "/weights/" in path}
    version = await updater.attempt("main")
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}
    assert orphan not in world.trainer.saved


async def test_what_a_process_could_not_delete_before_it_ended_the_next_one_deletes_and_no_version(world):
    updater = world.updater()
    await world.converse(8)
    version = await updater.attempt("main")
    await world.converse(8)
    world.gate.answers["main"] = "it is worse"
    world.trainer.failures["delete"] = BackendError("gone")
    assert isinstance(await updater.attempt("main"), Rejected)
    await updater.close()
    assert len(world.trainer.saved) == 4
    world.learning.recover()
    following = world.updater()
    assert await following.tidy()
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}
    assert not await following.tidy()


async def test_what_can_never_be_deleted_holds_up_nothing_else(world):
    class Stubborn(FakeTrainer):
        async def delete(self, paths: Sequence[str]) -> None:
            if any("-v1-" in path for path in paths):
                raise BackendError("not a path of mine")
            await super().delete(paths)

    world.trainer = Stubborn()
    updater = world.updater()
    for _ in range(6):
        await world.converse(8)
        await updater.attempt("main")
    assert numbers_of(world.trainer.saved) == {1, 3, 4, 5, 6}


def test_what_versions_of_older_releases_gave_up_is_deleted_once_more(tmp_path):
    scripts = resources.files("metaclaw.journal").joinpath("migrations")
    with closing(sqlite3.connect(tmp_path / "learning.db")) as old:
        for number in range(1, 12):
            old.executescript(scripts.joinpath(f"learning_{number:04}.sql").read_text(encoding="utf-8"))
        old.executescript("""
            PRAGMA user_version = 11;
            INSERT INTO updates (id, agent, parent, state, started_at) VALUES
                (1, 'main', 0, 'committed', 1), (2, 'main', 1, 'committed', 2);
            INSERT INTO versions (agent, version, parent, update_id, base_model, state_path, sampler_path, created_at,
                deleted_at) VALUES
                ('main', 1, 0, 1, 'b', 's1', 'w1', 1, 5), ('main', 2, 1, 2, 'b', 's2', 'w2', 2, NULL);
        """)
    with LearningJournal.open(tmp_path / "learning.db") as journal:
        assert journal.recover().weights == 0
        assert [one.paths for one in journal.unowned()] == [("s1", "w1")]


async def test_there_is_nothing_before_the_base_model(world):
    with pytest.raises(ConflictError):
        roll_back(world.learning, "main")
    await world.converse(8)
    await world.updater().attempt("main")
    assert roll_back(world.learning, "main") == 0
    history = world.learning._connection.execute("SELECT version, why FROM serving_history ORDER BY id").fetchall()
    assert [tuple(row) for row in history] == [(1, "update 1"), (0, "rollback from 1: asked for by the user")]
