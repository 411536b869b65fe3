"""Losses against the naive float64 loop, and the properties that tell a right loss from a plausible one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metaclaw.training.commands import Datum
from metaclaw.training.losses import HIGH, LOSSES, LOW, RATIO_MASK, Terms, merge
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import (
    assert_close,
    create,
    export,
    forward_backward,
    gradients,
    norm,
    policy,
    supervised,
    train,
    with_inputs,
)
from tests.training.engine.oracle import Oracle


def _data(loss: str, num_targets: int | None) -> tuple:
    if loss == "cross_entropy":
        data = tuple(supervised(n, num_targets=num_targets) for n in (6, 11))
        signed = np.linspace(-1.5, 2.0, data[0].inputs["weights"].size, dtype=np.float32)
        signed[1] = 0.0
        return (with_inputs(data[0], weights=signed.reshape(data[0].inputs["weights"].shape)), data[1])
    data = (policy(6), policy(11))
    if loss == "gspo":
        marks = [np.array([0] * 3 + [1] * (n - 3), np.float32) for n in (6, 11)]
        return tuple(with_inputs(each, **{RATIO_MASK: mark}) for each, mark in zip(data, marks, strict=True))
    if loss == "dro":  # as a prompt comes: neither drawn nor weighed
        return tuple(with_inputs(each, logprobs=_prompt_zeros(each)) for each in data)
    return data


def _prompt_zeros(datum: Datum) -> np.ndarray:
    return np.where(datum.inputs["advantages"] == 0, np.float32(0), datum.inputs["logprobs"])


@pytest.mark.parametrize(
    ("loss", "config", "num_targets"),
    [
        ("cross_entropy", {}, None),
        ("cross_entropy", {"temperature": 0.7}, None),
        ("cross_entropy", {}, 3),
        ("importance_sampling", {}, None),
        ("importance_sampling", {"temperature": 0.7}, None),
        ("ppo", {}, None),
        ("ppo", {"temperature": 0.7, LOW: 0.5, HIGH: 1.28}, None),
        ("cispo", {}, None),
        ("cispo", {"temperature": 1.3, LOW: 0.8, HIGH: 1.2}, None),
        ("dro", {}, None),
        ("dro", {"beta": 0.4, "temperature": 0.7}, None),
        ("gspo", {}, None),
        ("gspo", {LOW: 0.2, HIGH: 5.0, "temperature": 0.7}, None),
    ],
)
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_values_and_gradients_equal_a_naive_float64_loop(
    kind: str, loss: str, config: dict, num_targets: int | None, request: pytest.FixtureRequest,
    make_engine: MakeEngine, tmp_path: Path,
) -> None:  # fmt: skip
    folder: Path = request.getfixturevalue(f"{kind}_folder")
    engine = make_engine(folder)
    create(engine, rank=4, alpha=8.0)
    train(engine)
    data = _data(loss, num_targets)
    oracle = Oracle(folder, export(engine, tmp_path / "adapter"), rank=4, alpha=8.0)

    answer = forward_backward(engine, data, loss, **config)
    logprobs, total = oracle.run(data, loss, **config)

    for ours, theirs in zip(answer["logprobs"], logprobs, strict=True):
        np.testing.assert_allclose(ours.flatten(), theirs, atol=2e-5)
    assert answer["metrics"]["loss:sum"] == pytest.approx(total, rel=1e-4)
    assert norm(gradients(engine)) > 0.1
    assert_close(gradients(engine), oracle.gradients, 1e-4)


def test_bounds_given_for_each_token_go_before_the_configuration(
    tied_folder: Path, make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    create(engine)
    train(engine)
    own = with_inputs(
        policy(9), **{LOW: np.linspace(0.1, 0.9, 9, dtype=np.float32), HIGH: np.linspace(1.0, 3.0, 9, dtype=np.float32)}
    )
    data = (own, policy(9, seed=3))
    oracle = Oracle(tied_folder, export(engine, tmp_path / "adapter"), rank=4, alpha=32.0)
    answer = forward_backward(engine, data, "ppo", clip_high_threshold=1.5)
    assert answer["metrics"]["loss:sum"] == pytest.approx(oracle.run(data, "ppo", clip_high_threshold=1.5)[1], rel=1e-4)
    assert_close(gradients(engine), oracle.gradients, 1e-4)


@pytest.mark.parametrize(("log_prob", "expected"), [(-2.0, -1.0), (-0.1, -1.0)])
def test_cispo_pushes_an_unlikely_token_with_a_positive_advantage_up(log_prob: float, expected: float) -> None:
    """KNOWLEDGE 2: without the stop-gradient on the clipped ratio this derivative is +1 at lp = -2."""
    lp = torch.tensor([[log_prob]], requires_grad=True)
    inputs = {
        "logprobs": torch.tensor([[log_prob]]), "advantages": torch.ones(1, 1),
        LOW: torch.zeros(1, 1), HIGH: torch.full((1, 1), 4.0),
    }  # fmt: skip
    terms = Terms(inputs=inputs, owner_N=torch.zeros(1, dtype=torch.int64), settings={})
    LOSSES["cispo"].per_token(lp, terms).sum().backward()
    assert lp.grad is not None
    assert lp.grad.item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_twice_the_data_is_twice_the_gradient(loss: str, make_engine: MakeEngine) -> None:
    """A mean over tokens or datums would hide behind Adam; the norm shows it."""
    engine = make_engine()
    create(engine)
    train(engine)
    data = (supervised(8), supervised(5)) if loss == "cross_entropy" else (policy(8), policy(5))
    if loss == "gspo":
        data = tuple(with_inputs(each, **{RATIO_MASK: np.ones(len(each.tokens), np.float32)}) for each in data)
    config = {LOW: 0.01, HIGH: 100.0} if loss == "gspo" else {}
    forward_backward(engine, data, loss, **config)
    once = gradients(engine)
    forward_backward(engine, data, loss, **config)
    assert norm(gradients(engine)) == pytest.approx(2 * norm(once), rel=1e-6)
    engine.model("m").optimizer.drop_gradients()
    forward_backward(engine, data + data, loss, **config)
    assert norm(gradients(engine)) == pytest.approx(2 * norm(once), rel=1e-5)


def test_a_huge_ratio_is_clipped_without_breaking_the_gradient(make_engine: MakeEngine) -> None:
    """0 times infinity: the branch of the minimum that is not taken must not make the gradient NaN."""
    engine = make_engine()
    create(engine)
    train(engine)
    datum = with_inputs(policy(6), logprobs=np.full(6, -500.0, np.float32), advantages=np.ones(6, np.float32))
    answer = forward_backward(engine, (datum,), "ppo")
    assert answer["metrics"]["loss:sum"] == pytest.approx(-1.2 * 6, rel=1e-5)
    assert norm(gradients(engine)) == 0.0


def test_the_metrics_of_two_calls_merge_to_those_of_one(make_engine: MakeEngine) -> None:
    """The client splits data at 1024 datums and merges metrics by their suffix; each key has exactly one colon."""
    engine = make_engine()
    create(engine)
    train(engine)
    left, right = (policy(8), policy(5)), (policy(13, seed=4),)
    whole = forward_backward(engine, left + right, "ppo", temperature=0.7)["metrics"]
    merged = dict(forward_backward(engine, left, "ppo", temperature=0.7)["metrics"])
    merge(merged, forward_backward(engine, right, "ppo", temperature=0.7)["metrics"])
    assert merged == pytest.approx(whole, rel=1e-5)
    assert {key.count(":") for key in whole} == {1}
    assert whole["tokens:sum"] == 6 + 3 + 11
    assert 0 < whole["ratio:min"] < whole["ratio:max"]


def test_without_a_token_that_counts_there_is_no_ratio_and_no_gradient(make_engine: MakeEngine) -> None:
    engine = make_engine()
    create(engine)
    answer = forward_backward(engine, (with_inputs(policy(5), advantages=np.zeros(5, np.float32)),), "ppo")
    assert answer["metrics"] == {"loss:sum": 0.0, "tokens:sum": 0.0}
    assert np.isfinite(answer["logprobs"][0]).all()
    assert norm(gradients(engine)) == 0.0
