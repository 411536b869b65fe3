"""Sharing prefixes changes neither log-probs nor gradients, and is never assumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from metaclaw.training.commands import Datum
from metaclaw.training.engine import Engine
from metaclaw.training.prefix_trees import Layout, Sharing, SharingBounds, plan_layouts
from metaclaw.training.sharing import sharing_bounds
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import (
    VOCABULARY,
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

FREE = SharingBounds(sharing=Sharing.TREES, pairs_per_token=1e9, max_rows=4096)

# Few different tokens, so that prefixes are shared; a branch continues any earlier sequence from anywhere.
_PIECES = st.lists(st.integers(0, 2), min_size=1, max_size=8)
_BRANCHES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), _PIECES), min_size=1, max_size=8)


def _grow(branches: Sequence[tuple[int, int, list[int]]]) -> list[list[int]]:
    sequences: list[list[int]] = []
    for parent, cut, piece in branches:
        trunk = sequences[parent % len(sequences)] if sequences else []
        sequences.append(trunk[: cut % (len(trunk) + 1)] + piece)
    return sequences


def _plan(sequences: Sequence[Sequence[int]], bounds: SharingBounds = FREE) -> list[Layout]:
    return plan_layouts([np.array(each, np.int64) for each in sequences], bounds)


@given(_BRANCHES, st.sampled_from(Sharing), st.sampled_from([1.0, 20.0, 1e9]), st.sampled_from([1, 12, 4096]))
def test_every_sequence_is_laid_out_once_with_exactly_its_own_tokens_in_sight(
    branches: list, sharing: Sharing, pairs_per_token: float, max_rows: int
) -> None:
    sequences = _grow(branches)
    bounds = SharingBounds(sharing=sharing, pairs_per_token=pairs_per_token, max_rows=max_rows)
    layouts = _plan(sequences, bounds)
    assert sorted(index for layout in layouts for index in layout.members) == list(range(len(sequences)))
    for layout in layouts:
        assert not layout.branches or (sharing is Sharing.TREES and layout.length <= max_rows)
        visible_LL = layout.visible_LL()
        for index, rows in zip(layout.members, layout.rows, strict=True):
            assert layout.tokens_L[rows].tolist() == sequences[index]
            assert layout.depths_L[rows].tolist() == list(range(len(rows)))
            for position, row in enumerate(rows):
                assert visible_LL[row].nonzero()[0].tolist() == rows[: position + 1].tolist()


@given(_BRANCHES)
def test_where_sharing_is_free_each_prefix_has_one_row(branches: list) -> None:
    sequences = _grow(branches)
    prefixes = {tuple(each[: n + 1]) for each in sequences for n in range(len(each))}
    assert sum(layout.length for layout in _plan(sequences)) == len(prefixes)


def test_a_history_that_is_sent_again_is_one_sequence_without_branches() -> None:
    turns = [list(range(n)) for n in (4, 9, 15)]
    [layout] = _plan(
        [turns[2], turns[0], turns[1]], SharingBounds(sharing=Sharing.CHAINS, pairs_per_token=1, max_rows=1)
    )
    assert (layout.length, layout.branches) == (15, False)


def test_what_a_mask_costs_is_weighed_against_what_it_saves() -> None:
    """Two long sequences that share one token stay apart; eight answers to one prompt do not."""
    bounds = SharingBounds(sharing=Sharing.TREES, pairs_per_token=1000, max_rows=4096)
    rng = np.random.default_rng(0)
    apart = [[7, *rng.integers(8, 1000, 500)] for _ in range(2)]
    assert [layout.length for layout in _plan(apart, bounds)] == [501, 501]
    answers = [[*range(300), *rng.integers(1000, 2000, 40)] for _ in range(8)]
    [tree] = _plan(answers, bounds)
    assert tree.length == 300 + 8 * 40
    assert max(layout.length for layout in _plan(answers + apart, bounds)) == tree.length


def test_a_tree_beyond_the_bound_is_cut_into_smaller_ones() -> None:
    bounds = SharingBounds(sharing=Sharing.TREES, pairs_per_token=1e9, max_rows=200)
    layouts = _plan([[*range(100), 1000 + n, *range(30)] for n in range(8)], bounds)
    assert max(layout.length for layout in layouts) <= 200
    assert sum(layout.length for layout in layouts) < 8 * 131


def _engines(make_engine: MakeEngine) -> tuple[Engine, Engine]:
    """One that shares, and one that runs each datum alone."""
    sharing, alone = make_engine(), make_engine(max_batch_tokens=1)
    assert sharing.sharing.sharing is Sharing.TREES
    sharing.sharing = FREE
    alone.sharing = SharingBounds(sharing=Sharing.NONE, pairs_per_token=1, max_rows=1)
    for engine in (sharing, alone):
        create(engine)
        train(engine)
    return sharing, alone


@pytest.fixture(scope="module")
def engines(make_engine: MakeEngine) -> tuple[Engine, Engine]:
    return _engines(make_engine)


def _datum(tokens: Sequence[int], seed: int) -> Datum:
    """Targets follow the tokens, so that shared rows have shared targets, but for the last."""
    datum = policy(len(tokens), seed=seed, prompt=len(tokens) // 2)
    targets = np.array([*tokens[1:], seed % 3], np.int64)
    return Datum(tokens=np.array(tokens, np.int32), inputs=datum.inputs | {"target_tokens": targets})


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_BRANCHES, st.sampled_from(["ppo", "importance_sampling", "dro", "gspo"]), st.sampled_from([0.0, 1.0]))
def test_sharing_changes_no_log_prob_and_no_gradient(
    engines: tuple[Engine, Engine], branches: list, loss: str, logprobs: float
) -> None:
    data = tuple(_datum(tokens, seed) for seed, tokens in enumerate(_grow(branches)))
    if loss == "gspo":
        data = tuple(with_inputs(each, sequence_ratio_mask=np.ones(len(each.tokens), np.float32)) for each in data)
    answers = [forward_backward(engine, data, loss, logprobs=logprobs) for engine in engines]
    ours, theirs = (gradients(engine) for engine in engines)
    for engine in engines:
        engine.model("m").optimizer.drop_gradients()
    for shared, alone in zip(*(answer["logprobs"] for answer in answers), strict=True):
        np.testing.assert_allclose(shared, alone, atol=2e-5)
    assert answers[0]["metrics"] == pytest.approx(answers[1]["metrics"], rel=1e-4, abs=1e-4)
    scale = max(norm(theirs), 1e-3)
    for key, gradient in theirs.items():
        np.testing.assert_allclose(ours[key], gradient, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_a_tree_equals_the_naive_float64_loop(
    kind: str, request: pytest.FixtureRequest, make_engine: MakeEngine, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_folder")
    engine = make_engine(folder)
    engine.sharing = FREE
    create(engine, alpha=8.0)
    train(engine)
    trunk = [5, 9, 2, 7, 7, 1]
    data = tuple(_datum([*trunk, *tail], seed) for seed, tail in enumerate([[], [3], [3, 4, 4], [8, 1], [8, 1]]))
    oracle = Oracle(folder, export(engine, tmp_path / "adapter"), rank=4, alpha=8.0)
    answer = forward_backward(engine, data, "importance_sampling", temperature=0.7)
    logprobs, total = oracle.run(data, "importance_sampling", temperature=0.7)
    for ours, theirs in zip(answer["logprobs"], logprobs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert answer["metrics"]["loss:sum"] == pytest.approx(total, rel=1e-4)
    assert_close(gradients(engine), oracle.gradients, 1e-4)


def test_shared_tokens_run_through_the_model_once(engines: tuple[Engine, Engine]) -> None:
    sharing, _ = engines
    rows: list[int] = []
    hook = sharing.base.model.base_model.layers[0].register_forward_pre_hook(lambda _, x: rows.append(x[0].shape[1]))
    try:
        data = tuple(_datum([*range(20), 30 + n, 40], n) for n in range(4))
        forward_backward(sharing, data, "ppo", forward_only=True)
    finally:
        hook.remove()
    assert rows == [20 + 4 * 2]


def test_many_targets_share_prefixes_too(engines: tuple[Engine, Engine]) -> None:
    wide = supervised(9, num_targets=3)
    data = (wide, Datum(tokens=wide.tokens[:6], inputs={k: v[:6] for k, v in wide.inputs.items()}))
    answers = [forward_backward(engine, data)["logprobs"] for engine in engines]
    ours, theirs = (gradients(engine) for engine in engines)
    for engine in engines:
        engine.model("m").optimizer.drop_gradients()
    for shared, alone in zip(*answers, strict=True):
        np.testing.assert_allclose(shared, alone, atol=1e-5)
    assert_close(ours, theirs, 1e-5)


def test_unneeded_log_probs_are_left_out_when_asked(engines: tuple[Engine, Engine]) -> None:
    engine, _ = engines
    half = with_inputs(supervised(12), weights=np.array([0] * 8 + [1] * 4, np.float32))
    whole = forward_backward(engine, (half,), forward_only=True)["logprobs"][0]
    rows: list[int] = []
    head = engine.base.model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    sparse = forward_backward(engine, (half,), forward_only=True, logprobs=0)["logprobs"][0]
    hook.remove()
    assert sum(rows) == 4
    np.testing.assert_allclose(sparse[8:], whole[8:], atol=1e-6)
    assert sparse[:8].tolist() == [0.0] * 8


def _model(name: str, **settings: object) -> torch.nn.Module:
    config = AutoConfig.for_model(
        name, vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("llama", {}, Sharing.TREES),
        ("qwen2", {}, Sharing.TREES),
        ("mistral", {"sliding_window": 8}, Sharing.CHAINS),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, Sharing.CHAINS),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, Sharing.NONE),
    ],
)
def test_a_model_shares_only_what_it_shares_exactly(name: str, config: dict, expected: Sharing) -> None:
    assert sharing_bounds(_model(name, **config)).sharing is expected


def test_a_model_that_ignores_the_mask_is_found_out() -> None:
    """A recurrent layer carries the state of one branch into the next; the configuration need not say so."""
    model = _model("llama")
    mixer = model.base_model.layers[0].mlp

    def carry(_module: object, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return output + inputs[0].cumsum(dim=1)

    mixer.register_forward_hook(carry)
    assert sharing_bounds(model).sharing is Sharing.CHAINS
