"""How far the steps of an update may go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from metaclaw.journal.learning_records import Version
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.turns import TurnReader
from metaclaw.learner.outcomes import Rejected
from tests.fakes.trainer import log_softmax
from tests.learner.update_world import opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


async def test_an_absurd_learning_rate_is_refused_and_what_serves_stays(world):
    """PITFALLS R14: no gate, a bad update was served at once."""
    await world.converse(8)
    assert isinstance(await world.updater().attempt("main"), Version)
    await world.converse(8)
    rejected = await world.updater(learning_rate=9.0).attempt("main")
    assert isinstance(rejected, Rejected)
    assert "max_kl" in rejected.reason
    assert world.learning.serving("main") == 1
    assert world.states() == {"consumed": 8, "rejected": 8}
    assert [path for path in world.trainer.saved if "-v2-" in path] == [], "nothing of a refused update is saved"
    await world.converse(8)
    version = await world.updater().attempt("main")
    assert isinstance(version, Version)
    assert (version.version, version.parent) == (2, 1)


async def test_a_step_that_went_too_far_is_taken_back_and_made_shorter(world):
    await world.converse(8)
    updater = world.updater(learning_rate=0.9, warmup_steps=0, max_kl=0.05)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    (status,) = read_status(world.folder / "learning.db")
    metrics = status.last_update.metrics
    assert metrics["kl"] <= 0.05
    assert metrics["shortened"] >= 1
    assert 0.9 / 4 ** metrics["shortened"] <= metrics["learning_rate"] <= 0.9 * 0.85 ** metrics["shortened"]
    assert world.trainer.calls.count("optim_step") == metrics["shortened"] + 1
    assert world.trainer.num_open == 1, "the runs that were taken back are still open"
    alone = world.trainer.logits(None) - world.trainer.saved[version.state_path]
    assert np.abs(alone).max() <= metrics["learning_rate"] + 1e-9, "a step that was taken back still moved the weights"


async def test_several_steps_of_one_update_see_each_exchange_once_and_are_measured_from_its_start(world):
    await world.converse(8)
    version = await world.updater(steps=4, warmup_steps=0, max_kl=5.0).attempt("main")
    assert isinstance(version, Version)
    (status,) = read_status(world.folder / "learning.db")
    assert world.trainer.calls.count("optim_step") == world.trainer.calls.count("forward_backward") == 4
    assert world.trainer.calls.count("forward") == 2, "where an update began is known since its answers were weighed"
    assert status.last_update.metrics["num_tokens"] == status.consumed == 8
    start_V = log_softmax(world.trainer.logits(None), 0.8)
    change_V = log_softmax(world.trainer.saved[version.state_path], 0.8) - start_V
    drawn = await asyncio.to_thread(_drawn_tokens, world.folder)
    assert status.last_update.metrics["kl"] == pytest.approx(np.mean(np.expm1(change_V[drawn]) - change_V[drawn]))


async def test_several_steps_that_went_too_far_together_are_taken_back_together(world):
    await world.converse(8)
    updater = world.updater(steps=4, learning_rate=0.3, warmup_steps=0, max_kl=0.05)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    (status,) = read_status(world.folder / "learning.db")
    metrics = status.last_update.metrics
    assert metrics["shortened"] >= 1
    assert world.trainer.calls.count("optim_step") == 4 * (metrics["shortened"] + 1)
    assert world.trainer.calls.count("forward") == metrics["shortened"] + 2
    moved = np.abs(world.trainer.logits(None) - world.trainer.saved[version.state_path]).max()
    assert moved <= 4 * metrics["learning_rate"] + 1e-9


def _drawn_tokens(folder: Path) -> list[int]:
    with TurnReader.open(folder / "turns.db") as reader:
        samples = [reader.sample(turn.id) for turn in reader.turns()]
    return [int(np.frombuffer(sample.tokens, "<i4")[0]) for sample in samples if sample is not None]


async def test_after_a_refusal_the_live_weights_are_dropped(world):
    updater = world.updater(max_kl=1e-12)
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Rejected)
    assert world.trainer.num_open == 0
