"""Answers that sampler and trainer see differently."""

from __future__ import annotations

import pytest

from metaclaw.journal.learning_records import Version
from metaclaw.journal.learning_status import read_status
from metaclaw.learner.outcomes import Rejected
from tests.learner.update_world import opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


async def test_without_corrections_there_is_no_pass_before_the_step(world):
    await world.converse(6)
    await world.updater(max_token_weight=0.0, max_mismatch=0.0).attempt("main")
    assert world.trainer.calls[:3] == ["open", "forward_backward", "optim_step"]


async def test_an_answer_that_sampler_and_trainer_see_differently_is_left_out_of_the_manifest(world):
    await world.converse(6)
    await world.converse_wrongly(2)
    version = await world.updater().attempt("main")
    assert isinstance(version, Version)
    assert world.states() == {"consumed": 6, "expired": 2}
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert (metrics["masked_turns"], metrics["masked_share"]) == (2, 0.25)
    assert len(world.learning.rewards_of(version.update_id)) == 6
    await world.converse(6)
    await world.updater().attempt("main")
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert metrics["excluded"] == {"sampler_mismatch": 2}


@pytest.mark.parametrize("num_agreeing", [1, 3])
async def test_when_the_two_disagree_about_most_the_update_is_refused_by_name_and_is_not_tried_for_ever(
    world, num_agreeing
):
    await world.converse(num_agreeing)
    await world.converse_wrongly(8 - num_agreeing)
    updater = world.updater()
    rejected = await updater.attempt("main")
    assert isinstance(rejected, Rejected)
    assert "rl.update.max_mismatch" in rejected.reason
    assert f"about {8 - num_agreeing} of 8 answers" in rejected.reason
    assert world.states() == {"rejected": 8}
    assert "forward_backward" not in world.trainer.calls
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Version)
