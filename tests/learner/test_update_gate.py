"""Updates that the gate, a person or an interruption keeps from serving."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from metaclaw.errors import BackendError, ConflictError
from metaclaw.journal.learning_records import Version
from metaclaw.journal.learning_status import read_status
from metaclaw.learner import update
from metaclaw.learner.decisions import PolicyDecisions
from metaclaw.learner.gate.examination import GateWaitsError, JudgeAwayError
from metaclaw.learner.outcomes import Rejected, Waiting
from metaclaw.learner.versions import roll_back
from tests.fakes.trainer import FakeTrainer
from tests.learner.update_world import opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


async def test_a_version_that_the_gate_refuses_is_not_served_and_its_files_go(world):
    await world.converse(8)
    world.gate.answers["main"] = "it only repeats itself"
    updater = world.updater()
    rejected = await updater.attempt("main")
    assert rejected == Rejected(update_id=1, reason="it only repeats itself")
    (examined,) = world.gate.examined
    assert (examined.parent_path, len(examined.turns)) == (None, 8)
    assert examined.path not in world.trainer.saved
    assert world.trainer.saved == {}
    assert world.trainer.num_open == 0, "weights that took the refused step were kept"
    (status,) = read_status(world.folder / "learning.db")
    assert (status.serving, status.num_versions, status.pending) == (0, 0, 0)
    assert status.last_update is not None
    assert status.last_update.metrics["gate/kl"] == 0.01
    assert world.states() == {"rejected": 8}
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Version)


async def test_while_the_gate_cannot_examine_nothing_is_served_and_nothing_is_lost(world):
    await world.converse(8)
    world.gate.answers["main"] = GateWaitsError("the judge is down")
    updater = world.updater()
    with pytest.raises(BackendError, match="the judge is down"):
        await updater.attempt("main")
    assert world.states() == {"pending": 8}
    assert world.learning.serving("main") == 0
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}, "unexamined weights were kept"


async def test_while_the_judge_is_away_nothing_is_trained_again_and_the_examination_goes_on_when_it_is_back(world):
    """A judge without a key would else have the same update trained, saved and deleted every five minutes."""
    await world.converse(8)
    updater = world.updater()
    for _ in range(3):
        world.gate.answers["main"] = JudgeAwayError("the judge is down")
        with pytest.raises(BackendError, match="the judge is down"):
            await updater.attempt("main")
        assert (world.states(), world.learning.serving("main")) == ({"pending": 8}, 0)
    await world.gate.examined[0].finished.once("pair", 0, _answer)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert world.trainer.calls.count("forward_backward") == world.trainer.calls.count("save") == 1
    assert {one.path for one in world.gate.examined} == {version.sampler_path}
    assert len(world.gate.examined[-1].finished) == 1
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}


async def test_an_agent_that_is_pinned_or_rests_is_not_updated_and_its_samples_wait(world):
    await world.converse(8)
    world.holds.hold("main", "pin", "I like it as it is")
    assert await world.updater().attempt("main") == Waiting(reason="pin: I like it as it is")
    assert world.states() == {"pending": 8}
    assert world.trainer.calls == []
    world.holds.hold("main", "cooldown", "it got worse", for_s=10)
    assert world.holds.release("main", "pin")
    assert await world.updater().attempt("main") == Waiting(reason="cooldown: it got worse")
    world.holds.hold("main", "cooldown", "it got worse", for_s=0)
    assert isinstance(await world.updater().attempt("main"), Version)


async def test_a_version_that_was_examined_while_its_agent_was_pinned_does_not_serve(world):
    """Whoever pins is told that it stays with what serves; an update of an hour would have served all the same."""
    await world.converse(8)
    updater = world.updater()
    world.gate.is_slow = True
    running = asyncio.create_task(updater.attempt("main"))
    await world.gate.began.wait()
    said = PolicyDecisions(world.learning, world.holds).carry_out("policy_pin", "main", "it is good enough")
    assert "stays with the base model" in said
    world.gate.go_on()
    with pytest.raises(ConflictError, match="pinned while update 1 ran"):
        await running
    assert (world.learning.serving("main"), world.states()) == (0, {"pending": 8})
    assert await updater.attempt("main") == Waiting(reason="pin: it is good enough")
    assert world.holds.release("main", "pin")
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}


async def test_an_examination_that_was_interrupted_goes_on_without_training_again(world):
    await world.converse(8)
    updater = world.updater()
    await _interrupted(world, updater)
    assert world.states() == {"pending": 8}
    assert world.trainer.num_open == 0
    (first,) = world.gate.examined
    await first.finished.once("pair", 0, _answer)
    await world.converse(8)  # which has no part in it: what it was made of stands
    world.trainer.calls.clear()
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert "forward_backward" not in world.trainer.calls
    assert world.gate.examined[-1].path == first.path == version.sampler_path
    assert len(world.gate.examined[-1].finished) == 1, "what was drawn before is not known any more"
    assert world.states() == {"consumed": 8, "pending": 8}
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}
    following = await updater.attempt("main")
    assert (following.version, following.parent) == (2, 1), "and training goes on from there"


@pytest.mark.parametrize("change", ["another version serves", "a sample is gone", "the learner ends"])
async def test_what_was_interrupted_is_given_up_when_what_it_was_made_of_has_changed(world, change: str):
    updater = world.updater()
    for _ in range(2):
        await world.converse(8)
        await updater.attempt("main")
    await world.converse(8)
    kept = set(world.trainer.saved)
    await _interrupted(world, updater)
    assert set(world.trainer.saved) > kept
    if change == "another version serves":
        roll_back(world.learning, "main")
    elif change == "a sample is gone":
        world.learning.expire([world.learning.pending("main")[0].turn], "not_recorded")
    else:
        await updater.close()
        assert set(world.trainer.saved) == kept
        return
    await world.converse(8)
    world.trainer.calls.clear()
    version = await updater.attempt("main")
    assert "forward_backward" in world.trainer.calls
    assert set(world.trainer.saved) == kept | {version.state_path, version.sampler_path}


async def test_an_interrupted_update_whose_weights_are_gone_begins_anew(world):
    """Somebody deleted them, or the server has another base model now: no update of the agent was made any more."""
    await world.converse(8)
    updater = world.updater()
    await _interrupted(world, updater)
    world.trainer.saved.clear()
    waiting = await updater.attempt("main")
    assert isinstance(waiting, Waiting)
    assert "begins anew" in waiting.reason
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}


async def test_the_end_of_the_learner_waits_for_no_trainer_that_says_nothing(world, monkeypatch):
    class Silent(FakeTrainer):
        async def delete(self, paths: Sequence[str]) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(update, "CLOSE_S", 0.05)
    world.trainer = Silent()
    await world.converse(8)
    updater = world.updater()
    await _interrupted(world, updater)
    async with asyncio.timeout(5):
        await updater.close()
    assert world.trainer.is_closed
    assert len(world.learning.unowned()) == 1, "it is deleted after the next start"


async def test_a_serving_version_whose_weights_are_gone_is_said_and_nothing_is_lost(world):
    await world.converse(8)
    updater = world.updater()
    await updater.attempt("main")
    await updater.close()
    await world.converse(8)
    world.trainer.saved = {path: logits for path, logits in world.trainer.saved.items() if "/weights/" not in path}
    with pytest.raises(BackendError, match="metaclaw policy rollback"):
        await world.updater().attempt("main")
    assert world.states() == {"consumed": 8, "pending": 8}


async def _interrupted(world, updater) -> None:
    world.gate.is_slow = True
    world.gate.began.clear()
    task = asyncio.create_task(updater.attempt("main"))
    await world.gate.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    world.gate.is_slow = False


async def _answer() -> str:
    return "drawn"


async def test_being_stopped_in_the_middle_gives_the_samples_back(world):
    await world.converse(8)
    updater = world.updater()
    task = asyncio.create_task(updater.attempt("main"))
    world.trainer.when["forward_backward"] = task.cancel
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum(world.states().values()) == 8
    assert world.states().get("claimed", 0) == 0


async def test_a_rollback_during_an_update_wins_and_the_next_update_starts_there(world):
    updater = world.updater()
    for _ in range(2):
        await world.converse(8)
        await updater.attempt("main")
    await world.converse(8)
    world.trainer.when["warm"] = lambda: roll_back(world.learning, "main")
    with pytest.raises(ConflictError):
        await updater.attempt("main")
    assert world.learning.serving("main") == 1
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert (version.version, version.parent) == (3, 1)
    assert [one.version for one in world.learning.versions("main")] == [1, 2, 3]
    assert world.learning.serving("main") == 3
