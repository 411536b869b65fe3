"""What is recorded of an update."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaclaw.errors import BackendError
from metaclaw.journal.learning_status import read_status
from tests.learner.update_world import opened

pytestmark = pytest.mark.anyio

LOGGED = (
    "sampler_gap", "sampler_gap_max", "sampler_kl", "ratio_mean", "ratio_min", "ratio_p01", "ratio_p99", "ratio_max",
    "entropy", "entropy_before", "entropy_after", "kl", "kl_k1", "effective_share", "staleness_mean", "staleness_max",
    "masked_share", "masked_turns", "cut_share", "clipped_share", "num_sequences",
)  # fmt: skip


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


async def test_an_update_records_what_it_measured(world):
    await world.converse(6)
    await world.updater().attempt("main")
    (status,) = read_status(world.folder / "learning.db")
    assert (status.serving, status.judged, status.consumed, status.pending) == (1, 6, 6, 0)
    assert status.last_update is not None
    metrics = status.last_update.metrics
    assert metrics["sampler_gap"] == pytest.approx(0, abs=1e-6)
    assert metrics["ratio_mean"] == pytest.approx(1, abs=1e-6)
    assert 0 < metrics["kl"] < 0.05
    assert metrics["learning_rate"] == pytest.approx(0.025), "the first of two warm-up updates"
    assert metrics["num_tokens"] == 6
    assert {"step/grad_norm", "reward_mean", "baseline", "excluded"} <= set(metrics)
    assert set(metrics["seconds"]) >= {"forward_backward", "optim_step", "forward"}


async def test_a_model_that_says_its_size_gets_the_learning_rate_for_it_and_that_is_said(world, caplog):
    await world.converse(6)
    with caplog.at_level("INFO"):
        await world.updater(learning_rate=0.0).attempt("main")
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert metrics["learning_rate"] == pytest.approx(3e-4 / 2), "the first of two warm-up updates"
    assert "the learning rate's peak is 0.0003: for 16 parameters" in caplog.text


async def test_every_number_that_tells_of_an_update_is_recorded_and_documented(world):
    await world.converse(6)
    await world.updater(reference_kl=0.1).attempt("main")
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    page = (Path(__file__).parents[2] / "docs" / "updates.md").read_text()
    for name in (*LOGGED, "reference_kl", "reference_kl_k1"):
        assert isinstance(metrics[name], float), name
        assert f"`{name}`" in page, name
    assert metrics["reference_kl"] == 0.0, "the first update starts at the base model"
    assert metrics["entropy_after"] == pytest.approx(metrics["entropy"], abs=0.3)
    assert set(metrics["seconds"]) >= {"weigh", "reference"}
    assert world.trainer.num_open == 1, "the base model's run is still open"


async def test_the_baseline_counts_each_reward_once_whatever_fails_on_the_way(world):
    await world.converse(8, rewards=[0.0, 1.0])
    updater = world.updater()
    for call in ("save", "warm"):
        world.trainer.failures[call] = BackendError("gone")
        with pytest.raises(BackendError):
            await updater.attempt("main")
    assert world.learning.baseline("main") is None
    await updater.attempt("main")
    baseline = world.learning.baseline("main")
    assert baseline is not None
    assert (baseline.value, baseline.num_rewards) == (0.5, 8)
