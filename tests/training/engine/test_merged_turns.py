"""Turns of a session trained on as one sequence teach what they teach apart."""

from __future__ import annotations

import numpy as np
import pytest

from metaclaw.config import UpdateSettings
from metaclaw.learner import datums as learner
from metaclaw.training.commands import Datum
from metaclaw.training.engine import Engine
from tests.learner.recording import policy_sample
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import VOCABULARY, assert_close, create, forward_backward, gradients, norm, train


@pytest.mark.parametrize("loss", ["ppo", "importance_sampling", "cispo"])
def test_one_sequence_has_the_gradients_of_the_turns_apart(make_engine: MakeEngine, loss: str) -> None:
    """Within 1e-5 of the largest: float32 sums in another order. A turn too few, or moved by one, is off by tenths."""
    settings = UpdateSettings(loss=loss, ratio_low=0.5, ratio_high=2)
    turns = session(num_turns=5)
    (merged,) = learner.build_groups(turns, settings)
    apart = [learner.build_groups([turn], settings)[0] for turn in turns]
    assert len(merged.data) == 1
    together, alone = prepared(make_engine()), prepared(make_engine())
    for_all = run(together, merged, 1.0)
    total = sum(len(turn.sample.tokens) // 4 for turn in turns)
    for_each = [run(alone, one, len(turn.sample.tokens) / 4 / total) for one, turn in zip(apart, turns, strict=True)]
    assert norm(gradients(alone)) > 1e-3
    assert_close(gradients(together), gradients(alone), 1e-5)
    spans = merged.data[0].spans
    assert [span.turn for span in spans] == [turn.turn for turn in turns]
    for span, one, logprobs in zip(spans, apart, for_each, strict=True):
        own = one.data[0].spans[0]
        assert for_all[span.start : span.stop] == pytest.approx(logprobs[own.start : own.stop], abs=1e-4)


def session(num_turns: int) -> list[learner.TrainingTurn]:
    rng, history, turns = np.random.default_rng(5), np.array([], np.int32), []
    for number in range(num_turns):
        prompt = np.concatenate([history, rng.integers(0, VOCABULARY, 6, dtype=np.int32)])
        answer = rng.integers(0, VOCABULARY, 4 + number, dtype=np.int32)
        logprobs = -5.5 + rng.normal(size=answer.size)
        sample = policy_sample(prompt, answer, logprobs, version=number // 2)
        turns.append(learner.TrainingTurn(turn=f"t{number}", sample=sample, surprise=float(rng.normal())))
        history = np.concatenate([prompt, answer])
    return turns


def prepared(engine: Engine) -> Engine:
    create(engine)
    train(engine)
    return engine


def run(engine: Engine, group: learner.DatumGroup, share: float) -> np.ndarray:
    """Train on ``group``'s only datum, of whose advantages a ``share`` counts; return its log-probs."""
    (datum,) = group.data
    inputs = {
        "target_tokens": datum.targets_T,
        "logprobs": datum.logprobs_T,
        "advantages": (datum.advantages_T * share).astype(np.float32),
    }
    data = (Datum(tokens=datum.tokens_T.astype(np.int32), inputs=inputs),)
    return forward_backward(engine, data, group.loss, **group.config)["logprobs"][0]
