"""Requests that the engine refuses: always the caller's fault, naming what and where."""

from __future__ import annotations

import numpy as np
import pytest

from metaclaw.errors import InvalidRequestError, NotFoundError, RequestTooLargeError
from metaclaw.training.commands import Datum
from metaclaw.training.engine import Engine
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import (
    VOCABULARY,
    create,
    forward_backward,
    gradients,
    policy,
    supervised,
    with_inputs,
)


def _tokens(datum: Datum, tokens: object, dtype: type = np.int32) -> Datum:
    return Datum(tokens=np.array(tokens, dtype), inputs=datum.inputs)


def _replaced(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[-1] = value
    return changed


def _s(**inputs: np.ndarray | None) -> Datum:
    return with_inputs(_S, **inputs)


def _p(**inputs: np.ndarray | None) -> Datum:
    return with_inputs(_P, **inputs)


_CE, _PPO, _IS = "cross_entropy", "ppo", "importance_sampling"
_S, _P = supervised(4), policy(4)
_ADVANTAGES, _TARGETS = _P.inputs["advantages"], _S.inputs["target_tokens"]

REFUSED = {
    "no tokens": (_CE, _tokens(_S, []), r"data\[1\]\.model_input must hold at least one token"),
    "too long": (_CE, supervised(65), r"data\[1\]\.model_input has 65 tokens.*at most 64"),
    "a token beyond the vocabulary": (_CE, _tokens(_S, [1, 2, VOCABULARY, 3]), r"model_input.* id 263"),
    "a negative token": (_CE, _tokens(_S, [1, -2, 2, 3]), r"model_input.* id -2"),
    "tokens as numbers": (_CE, _tokens(_S, [1, 2, 3, 4], np.float32), "must be integers"),
    "tokens in two dimensions": (_CE, _tokens(_S, [[1, 2], [3, 4]]), "in one dimension"),
    "a target beyond": (_CE, _s(target_tokens=_replaced(_TARGETS, 999)), r"target_tokens.* id 999"),
    "a negative target": (_PPO, _p(target_tokens=_replaced(_TARGETS, -100)), r"target_tokens.* id -100"),
    "fewer targets": (_CE, _s(target_tokens=_TARGETS[:3]), r"3 positions, .* 4 tokens"),
    "weights of another shape": (_CE, _s(weights=np.ones(3, np.float32)), r"weights has the shape \(3,\)"),
    "many targets for a policy": (_PPO, _p(target_tokens=np.ones((4, 2), np.int64)), r"shape \(T,\) for loss 'ppo'"),
    "no targets at all": (_CE, _s(target_tokens=np.ones((4, 0), np.int64)), "must have the shape"),
    "a NaN weight": (_CE, _s(weights=np.full(4, np.nan, np.float32)), r"weights must be finite"),
    "a NaN advantage": (_PPO, _p(advantages=_replaced(_ADVANTAGES, np.nan)), r"advantages.* at 3 is nan"),
    "an infinite log-prob": (_PPO, _p(logprobs=_replaced(_ADVANTAGES, -np.inf)), r"logprobs.* at 3 is -inf"),
    "weights as integers": (_CE, _s(weights=np.ones(4, np.int64)), "weights must be float32"),
    "missing targets": (_CE, _s(target_tokens=None), "target_tokens is missing"),
    "missing weights": (_CE, _s(weights=None), "weights is missing"),
    "missing log-probs": ("cispo", _p(logprobs=None), "logprobs is missing"),
    "missing advantages": (_IS, _p(advantages=None), "advantages is missing"),
    "an unknown input": (_PPO, _p(mask=np.ones(4, np.float32)), r"mask is not an input of loss 'ppo'"),
    "bounds without clipping": (_IS, _p(clip_low_threshold=np.ones(4, np.float32)), "threshold is not an input"),
    "gspo without its mask": ("gspo", _P, r"sequence_ratio_mask is missing"),
    "gspo with an empty mask": ("gspo", _p(sequence_ratio_mask=np.zeros(4, np.float32)), r"marks no position"),
    "bounds that cross": (_PPO, _p(clip_high_threshold=np.full(4, 0.5, np.float32)), "0 <= clip_low"),
}  # fmt: skip


@pytest.fixture(scope="module")
def small(make_engine: MakeEngine) -> Engine:
    engine = make_engine(max_context=64)
    create(engine)
    return engine


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_datum_is_refused_by_its_index_and_nothing_is_trained(small: Engine, name: str) -> None:
    loss, datum, message = REFUSED[name]
    good = supervised(4) if loss == "cross_entropy" else policy(4)
    if loss == "gspo":
        good = with_inputs(good, sequence_ratio_mask=np.ones(4, np.float32))
    with pytest.raises(InvalidRequestError, match=message) as refusal:
        forward_backward(small, (good, datum), loss)
    assert "data[1]" in str(refusal.value)
    assert isinstance(refusal.value, RequestTooLargeError) == (name == "too long")
    assert gradients(small) == {}


@pytest.mark.parametrize(
    ("loss", "config", "message"),
    [
        ("kto", {}, "unknown loss 'kto'; known are cross_entropy, importance_sampling, ppo, cispo, dro, gspo"),
        ("grpo", {}, "unknown loss 'grpo'.*use 'ppo' or 'importance_sampling'"),
        ("stable_reinforce", {}, "unknown loss 'stable_reinforce'.*use 'cispo' or 'importance_sampling'"),
        ("custom", {}, "forward_backward_custom"),
        ("ppo", {"clip_epsilon": 0.2}, "no setting 'clip_epsilon'; it knows temperature, logprobs, clip_low_threshold"),
        ("ppo", {"logprobs": 0.5}, "logprobs must be 1 .* or 0"),
        ("dro", {"beta": -1.0}, "beta must be at least 0"),
        ("dro", {"clip_low_threshold": 0.5}, "it knows temperature, logprobs, beta"),
        ("gspo", {"beta": 0.5}, "no setting 'beta'"),
        ("importance_sampling", {"clip_low_threshold": 0.8}, "no setting 'clip_low_threshold'; it knows temperature"),
        ("ppo", {"temperature": 0.0}, "temperature must be above 0"),
        ("ppo", {"temperature": float("nan")}, "'temperature' must be a finite number"),
        ("ppo", {"temperature": "hot"}, "'temperature' must be a finite number"),
        ("ppo", {"clip_low_threshold": 1.5}, "0 <= clip_low_threshold <= clip_high_threshold"),
    ],
)
def test_a_loss_or_its_configuration_is_refused(small: Engine, loss: str, config: dict, message: str) -> None:
    data = (supervised(4),) if loss == "cross_entropy" else (policy(4),)
    with pytest.raises(InvalidRequestError, match=message):
        forward_backward(small, data, loss, **config)


def test_no_data_and_no_model_are_refused(small: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="data is empty"):
        forward_backward(small, ())
    with pytest.raises(NotFoundError, match="'ghost'"):
        forward_backward(small, (supervised(4),), model_id="ghost")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be between 1 and 64"), ({"rank": 65}, "rank must be between 1 and 64"),
        ({"alpha": 0.0}, "alpha"), ({"alpha": float("nan")}, "alpha"),
        ({"train_attn": False, "train_mlp": False, "train_unembed": False}, "nothing to train"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_made_is_refused(small: Engine, settings: dict, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        create(small, "bad", **settings)
    assert "bad" not in small.model_ids


def test_the_longest_sequence_and_the_last_token_are_taken(small: Engine) -> None:
    datum = _tokens(supervised(64), [VOCABULARY - 1] * 64)
    assert forward_backward(small, (datum,), forward_only=True)["logprobs"][0].shape == (64,)
