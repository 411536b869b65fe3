"""Losses through the official SDK: what a caller computes itself, bounds for each token, several targets a position."""

from __future__ import annotations

import pytest
import tinker
import torch
from tinker import types

from tests.training.api.test_tinker_training import datum, policy_datum

DATA = [datum([1, 2, 3, 4]), datum([9, 8, 7], [0.5, -2.0])]
STILL = types.AdamParams(learning_rate=0.0)


@pytest.fixture
def trainer(server, service) -> tinker.TrainingClient:
    return service.create_lora_training_client(str(server.model), rank=4, seed=7).result()


def norm_after(trainer: tinker.TrainingClient) -> float:
    return trainer.optim_step(STILL).result().metrics["grad_norm"]


def bounded(bounds=None, advantages=(1.0, 1.0)) -> list[types.Datum]:
    plain = policy_datum([1, 2, 3], [-0.1, -9.0], list(advantages))  # ratios far below and far above one
    more = {} if bounds is None else {"clip_low_threshold": bounds[0], "clip_high_threshold": bounds[1]}
    return [types.Datum(model_input=plain.model_input, loss_fn_inputs={**plain.loss_fn_inputs, **more})]


def test_cross_entropy_written_by_the_caller_has_the_gradient_of_ours(trainer):
    """Two rounds through the server: the log-probs, then signed weights. Right only where nothing is normalised."""

    def mine(data, logprobs):
        weights = [torch.tensor(each.loss_fn_inputs["weights"].data) for each in data]
        value = -sum((each * weight).sum() for each, weight in zip(logprobs, weights, strict=True))
        return value, {"mine": value.item()}

    trainer.forward_backward_custom(DATA, mine).result()
    custom = norm_after(trainer)
    trainer.forward_backward(DATA, "cross_entropy").result()
    assert custom == pytest.approx(norm_after(trainer), rel=1e-5)


def test_the_gradient_of_a_callers_own_loss_moves_the_model(trainer):
    def likelier(_data, logprobs):
        value = -sum(each.exp().sum() for each in logprobs)
        return value, {}

    before = trainer.forward(DATA[:1], "cross_entropy").result().metrics["loss:sum"]
    trainer.forward_backward_custom(DATA[:1], likelier).result()
    trainer.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    assert trainer.forward(DATA[:1], "cross_entropy").result().metrics["loss:sum"] < before


@pytest.mark.parametrize("loss", ["ppo", "cispo"])
def test_bounds_for_each_token_mean_what_bounds_for_all_mean(trainer, loss):
    everywhere = {"clip_low_threshold": 0.5, "clip_high_threshold": 2.0}
    by_config = trainer.forward_backward(bounded(), loss, loss_fn_config=everywhere).result().metrics["loss:sum"]
    by_token = trainer.forward_backward(bounded(([0.5, 0.5], [2.0, 2.0])), loss).result().metrics["loss:sum"]
    other = trainer.forward_backward(bounded(([0.5, 0.5], [2.0, 8.0])), loss).result().metrics["loss:sum"]
    assert by_token == pytest.approx(by_config, rel=1e-6)
    assert other != pytest.approx(by_config, rel=1e-3)


@pytest.mark.parametrize(
    ("loss", "config"), [("dro", {"beta": 0.5}), ("gspo", {"clip_low_threshold": 0.0, "clip_high_threshold": 100.0})]
)
def test_losses_of_whole_answers_are_what_their_formulas_say(trainer, loss, config):
    logprobs, advantages = [-1.0, -2.0, -3.0], [1.0, 1.0, 1.0]
    plain = policy_datum([1, 2, 3, 4], logprobs, advantages)
    mask = {"sequence_ratio_mask": [0.0, 1.0, 1.0]} if loss == "gspo" else {}
    data = [types.Datum(model_input=plain.model_input, loss_fn_inputs={**plain.loss_fn_inputs, **mask})]
    result = trainer.forward_backward(data, loss, loss_fn_config=config).result()
    lp = torch.tensor(result.loss_fn_outputs[0]["logprobs"].data)
    gap = lp - torch.tensor(logprobs)
    expected = -(lp - 0.25 * gap**2).sum() if loss == "dro" else -3 * gap[1:].mean().exp()
    assert result.metrics["loss:sum"] == pytest.approx(expected.item(), rel=1e-4)


def test_twice_the_data_is_twice_the_gradient(trainer):
    trainer.forward_backward(DATA, "cross_entropy").result()
    once = norm_after(trainer)
    trainer.forward_backward(DATA * 2, "cross_entropy").result()
    assert norm_after(trainer) == pytest.approx(2 * once, rel=1e-5)


def test_an_unlikely_token_with_a_positive_advantage_becomes_likelier_with_cispo(trainer):
    """With a gradient through the clipped ratio its sign would turn below a probability of 0.37."""
    data = [policy_datum([1, 2, 3], [-2.0, -2.0], [1.0, 1.0])]
    before = trainer.forward_backward(data, "cispo").result().loss_fn_outputs[0]["logprobs"].data
    trainer.optim_step(types.AdamParams(learning_rate=1e-3)).result()
    after = trainer.forward(data, "cispo").result().loss_fn_outputs[0]["logprobs"].data
    assert sum(after) > sum(before)


def test_several_targets_a_position_sparse_or_not_are_the_sum_of_each(trainer):
    targets = torch.tensor([[2, 3], [4, 0], [5, 0], [6, 0]])
    weights = torch.tensor([[0.75, 0.25], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    inputs = {"target_tokens": targets, "weights": weights}
    both = types.Datum(model_input=types.ModelInput.from_ints([1, 2, 3, 4]), loss_fn_inputs=inputs)
    assert both.loss_fn_inputs["weights"].shape == [4, 2]
    result = trainer.forward([both], "cross_entropy").result()
    logprobs = torch.tensor(result.loss_fn_outputs[0]["logprobs"].data).reshape(4, 2)
    assert result.metrics["loss:sum"] == pytest.approx(-(logprobs * weights).sum().item(), rel=1e-5)


def test_a_wide_sparse_target_goes_over_the_wire_as_csr_and_comes_out_whole(trainer):
    """The SDK sends two-dimensional tensors as CSR where that is smaller."""
    weights = torch.zeros(6, 8)
    weights[torch.arange(6), torch.arange(6)] = 1.0
    targets = torch.zeros(6, 8, dtype=torch.int64)
    targets[torch.arange(6), torch.arange(6)] = torch.tensor([2, 3, 4, 5, 6, 7])
    inputs = {"target_tokens": targets, "weights": weights}
    wide = types.Datum(model_input=types.ModelInput.from_ints([1, 2, 3, 4, 5, 6]), loss_fn_inputs=inputs)
    assert wide.loss_fn_inputs["weights"].sparse_crow_indices is not None
    sparse = trainer.forward([wide], "cross_entropy").result().metrics["loss:sum"]
    plain = trainer.forward([datum([1, 2, 3, 4, 5, 6, 7])], "cross_entropy").result().metrics["loss:sum"]
    assert sparse == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "words"),
    [("stable_reinforce", "not published"), ("custom", "forward_backward_custom"), ("nonsense", "known are")],
)
def test_a_loss_that_is_not_served_is_refused_with_what_to_do(trainer, loss, words):
    with pytest.raises(tinker.RequestFailedError, match=words) as refused:
        trainer.forward_backward(DATA[:1], loss).result()
    assert refused.value.category == types.RequestErrorCategory.User


def test_pictures_and_sound_are_refused_as_what_they_are(trainer):
    picture = types.ModelInput(chunks=[types.ImageChunk(data=b"x", format="png")])
    inputs = {"target_tokens": [1], "weights": [1.0]}
    data = [types.Datum(model_input=picture, loss_fn_inputs=inputs)]
    with pytest.raises(tinker.RequestFailedError, match="'image'"):
        trainer.forward_backward(data, "cross_entropy").result()
