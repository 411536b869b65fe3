"""One update from judged turns to a version that serves, and the trainers that do not let it get there."""

from __future__ import annotations

import numpy as np
import pytest

from metaclaw.errors import BackendError
from metaclaw.journal.learning_records import Version
from metaclaw.journal.learning_status import read_status
from metaclaw.learner.backends.backend import RefusedDataError
from metaclaw.learner.outcomes import Rejected, Waiting
from metaclaw.learner.versions import roll_back
from tests.fakes.trainer import VOCABULARY
from tests.learner.update_world import Drawn, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


async def test_updates_raise_the_reward_and_resume_from_each_other(world):
    updater = world.updater()
    first = await world.converse(16)
    for number in range(1, 13):
        version = await updater.attempt("main")
        assert isinstance(version, Version)
        assert (version.version, version.parent) == (number, number - 1)
        last = await world.converse(16)
    assert world.trainer.calls.count("open") == 1, "the live weights were not kept between updates"
    assert last > first + 0.2
    await updater.close()
    assert world.trainer.num_open == 0


async def test_an_agent_without_a_version_begins_with_the_state_that_was_named_once_and_unchanged(world):
    named = "tinker://elsewhere/weights/good"
    world.trainer.saved[named] = np.linspace(-1, 1, VOCABULARY)
    await world.converse(16)
    world.trainer.failures["save"] = BackendError("the disk is full")
    updater = world.updater(resume_from=named)
    with pytest.raises(BackendError, match="the disk is full"):
        await updater.attempt("main")
    assert (world.learning.serving("main"), world.trainer.num_open) == (0, 0)
    first = await updater.attempt("main")
    assert isinstance(first, Version)
    assert (first.version, first.parent, world.learning.serving("main")) == (1, 0, 1)
    np.testing.assert_array_equal(world.trainer.logits(first.sampler_path), world.trainer.saved[named])
    assert named not in (first.state_path, first.sampler_path)
    assert world.states() == {"pending": 16}, "no sample was trained on"
    await world.converse(16)
    second = await updater.attempt("main")
    assert isinstance(second, Version)
    assert (second.version, second.parent) == (2, 1)
    roll_back(world.learning, "main", 0)
    await world.converse(16)
    third = await updater.attempt("main")
    assert isinstance(third, Version)
    assert third.parent == 0, "who was taken back to the base model is not brought there again"
    await updater.close()
    assert named in world.trainer.saved


async def test_a_version_that_is_tried_first_does_not_serve_and_nothing_is_trained_meanwhile(world):
    updater = world.updater(canary_share=0.1)
    await world.converse(16)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    canary = world.learning.canary("main")
    assert canary is not None
    assert (world.learning.serving("main"), canary.version, canary.share) == (0, 1, 0.1)
    await world.converse(16)
    waiting = await updater.attempt("main")
    assert isinstance(waiting, Waiting)
    assert waiting.reason == "version 1 is tried on 10% of new sessions first"
    world.learning.end_canary(canary, "it did well", serves=True)
    following = await updater.attempt("main")
    assert isinstance(following, Version)
    assert following.parent == 1
    await updater.close()


async def test_a_state_that_is_not_there_names_the_setting(world):
    await world.converse(16)
    with pytest.raises(BackendError, match=r"nowhere does not exist \(rl\.resume_from"):
        await world.updater(resume_from="tinker://nowhere").attempt("main")


async def test_what_an_update_draws_itself_is_trained_on_and_is_in_no_manifest(world):
    drawn = Drawn()
    updater = world.updater(rollouts=drawn, max_token_weight=0.0, max_mismatch=0.0)
    await world.converse(6, rewards=[1.0, 0.0])
    before = world.trainer.logits(None)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert (metrics["num_tokens"], metrics["num_turns"], metrics["rollouts"]) == (8, 6, 2)
    assert metrics["ratio_max"] == pytest.approx(1.0), "what was drawn now is as likely as it was when drawn"
    assert world.states() == {"consumed": 6}
    moved = world.trainer.saved[version.state_path] - before
    assert moved[1] > moved[2]
    await world.converse(6, rewards=[1.0, 0.0])
    await updater.attempt("main")
    assert [weights for weights, _ in drawn.asked] == [None, version.sampler_path]
    assert [len(turns) for _, turns in drawn.asked] == [6, 6]


async def test_when_nothing_can_be_drawn_the_samples_wait(world):
    await world.converse(6)
    with pytest.raises(BackendError, match="away"):
        await world.updater(rollouts=Drawn(failure=BackendError("away"))).attempt("main")
    assert world.states() == {"pending": 6}


async def test_too_little_waits_without_touching_the_trainer(world):
    await world.converse(3)
    assert await world.updater().attempt("main") == Waiting(reason="3 of 4 judged exchanges")
    assert world.trainer.calls == []
    assert read_status(world.folder / "learning.db")[0].last_update is None


@pytest.mark.parametrize("call", ["forward_backward", "optim_step", "forward", "save", "warm"])
async def test_a_trainer_that_fails_costs_nothing_but_time(world, call):
    """PITFALLS R8: after a failure the remote weights had changed, the step was counted, and the drift was silent."""
    await world.converse(8)
    updater = world.updater()
    world.trainer.failures[call] = BackendError("gone")
    with pytest.raises(BackendError):
        await updater.attempt("main")
    assert world.states() == {"pending": 8}
    assert world.learning.serving("main") == 0
    assert world.trainer.num_open == 0, "weights of an unknown state were kept"
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert version.version == 1


async def test_a_trainer_that_is_down_leaves_no_trace_in_the_journal(world):
    await world.converse(8)
    world.trainer.failures["open"] = BackendError("down")
    with pytest.raises(BackendError):
        await world.updater().attempt("main")
    assert read_status(world.folder / "learning.db")[0].last_update is None


async def test_data_that_the_trainer_refuses_is_given_up_instead_of_tried_for_ever(world):
    await world.converse(8)
    world.trainer.failures["forward_backward"] = RefusedDataError("longer than the context")
    updater = world.updater()
    assert isinstance(await updater.attempt("main"), Rejected)
    assert world.states() == {"rejected": 8}
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Version)


async def test_turns_that_the_trainer_refuses_do_not_spend_the_others_of_their_update(world):
    """A batch of 64 exchanges was lost by one that is longer than what the server reads since it was restarted."""
    await world.converse(9, at=-1.0)
    await world.converse(3, temperature=0.5)
    world.trainer.refuses = lambda group: group.config["temperature"] == 0.5
    updater = world.updater()
    waiting = await updater.attempt("main")
    assert isinstance(waiting, Waiting)
    assert "does not take" in waiting.reason
    assert (world.states(), world.learning.expired("main")) == ({"expired": 3, "pending": 9}, {"refused_by_trainer": 3})
    assert isinstance(await updater.attempt("main"), Version)
    assert world.states() == {"expired": 3, "consumed": 9}
    await world.converse(8, temperature=0.5)
    assert isinstance(await updater.attempt("main"), Rejected), "all of them: there is nothing else to train on"
    assert world.states() == {"expired": 3, "consumed": 9, "rejected": 8}


async def test_equal_rewards_make_no_update(world):
    """PITFALLS R4: steps without a gradient were counted."""
    await world.converse(8, rewards=[0.5])
    outcome = await world.updater().attempt("main")
    assert isinstance(outcome, Waiting)
    assert world.states() == {"pending": 8}
