"""How examples are grouped changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.training.batches import plan_batches
from metaclaw.training.commands import Datum
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import (
    assert_close,
    create,
    forward_backward,
    gradients,
    policy,
    supervised,
    train,
    with_inputs,
)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 1024))
def test_every_example_is_in_one_group_and_no_group_is_too_large(lengths: list[int], budget: int) -> None:
    groups = plan_batches(lengths, max_tokens=budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= budget


@pytest.mark.parametrize("budget", [1, 16, 40, 4096])
def test_the_result_does_not_depend_on_the_grouping(budget: int, make_engine: MakeEngine) -> None:
    """The log-probs come back in the order of the request, equal to those of each datum alone."""
    data = tuple(policy(length, seed=length) for length in (3, 17, 9, 1, 17, 30))
    alone = make_engine(max_batch_tokens=1)
    grouped = make_engine(max_batch_tokens=budget)
    for engine in (alone, grouped):
        create(engine)
        train(engine, data=(supervised(6),))
    expected = [forward_backward(alone, (datum,), "ppo")["logprobs"][0] for datum in data]
    answer = forward_backward(grouped, data, "ppo")
    for ours, theirs in zip(answer["logprobs"], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert_close(gradients(grouped), gradients(alone), 1e-5)


def test_targets_of_different_width_share_a_batch(make_engine: MakeEngine) -> None:
    data = (supervised(5, num_targets=4), supervised(5), supervised(5, num_targets=1))
    engine, apart = make_engine(), make_engine()
    for each in (engine, apart):
        create(each)
        train(each)
    answer = forward_backward(engine, data)
    assert [array.shape for array in answer["logprobs"]] == [(5, 4), (5,), (5, 1)]
    for datum, ours in zip(data, answer["logprobs"], strict=True):
        np.testing.assert_allclose(ours, forward_backward(apart, (datum,))["logprobs"][0], atol=1e-5)
    assert_close(gradients(engine), gradients(apart), 1e-5)


def test_positions_that_weigh_nothing_still_have_their_log_probs(make_engine: MakeEngine) -> None:
    """The API promises a log-prob for every target, also of the prompt.

    PITFALLS B8: what had no advantage was no part of the answer.
    """
    engine = make_engine()
    create(engine)
    train(engine)
    whole = supervised(12)
    half = with_inputs(whole, weights=np.array([0] * 8 + [1] * 4, np.float32))
    expected = forward_backward(engine, (whole,), forward_only=True)["logprobs"][0]
    np.testing.assert_allclose(forward_backward(engine, (half,))["logprobs"][0], expected, atol=1e-6)


def test_a_position_that_weighs_nothing_has_no_gradient(make_engine: MakeEngine) -> None:
    """Changing only such a position's target changes no gradient."""
    half = with_inputs(supervised(12), weights=np.array([0] * 8 + [1] * 4, np.float32))
    changed = half.inputs["target_tokens"].copy()
    changed[:8] = 5
    results = []
    for datum in (half, Datum(tokens=half.tokens, inputs=half.inputs | {"target_tokens": changed})):
        engine = make_engine()
        create(engine)
        train(engine)
        forward_backward(engine, (datum,))
        results.append(gradients(engine))
    assert_close(results[0], results[1], 0.0)


def test_long_sequences_run_through_the_output_embedding_in_chunks(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PITFALLS B8: the softmax was over the whole vocabulary for every place at once."""
    data = (supervised(40), supervised(33))
    whole, chunked = make_engine(), make_engine()
    for engine in (whole, chunked):
        create(engine)
        train(engine)
    expected = forward_backward(whole, data)["logprobs"]
    monkeypatch.setattr("metaclaw.training.logprobs._MAX_LOGITS", 263 * 7)
    rows: list[int] = []
    head = chunked.base.model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    answer = forward_backward(chunked, data)["logprobs"]
    for ours, theirs in zip(answer, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert_close(gradients(chunked), gradients(whole), 1e-5)
    assert max(rows) == 7  # never more logits at once than seven positions
    assert sum(rows) == 40 + 33  # each once: the backward needs no logits
