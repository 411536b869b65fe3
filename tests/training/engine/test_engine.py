"""What commands do to models, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from metaclaw.errors import ConflictError, EngineError, InvalidRequestError, ModelSourceError, NotFoundError
from metaclaw.training.commands import OptimStep, UnloadAdapter, UnloadModel
from metaclaw.training.engine import Engine
from metaclaw.training.recomputation import Recomputation
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
    weights,
    with_inputs,
)


def _plain_logprobs(model: torch.nn.Module, tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.tensor(tokens.astype(np.int64))[None]).logits[0].float()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(targets)[:, None])[:, 0].numpy()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own use of an older name
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_log_probs_equal_those_of_plain_transformers(
    kind: str, request: pytest.FixtureRequest, make_engine: MakeEngine, tmp_path: Path
) -> None:
    """Before training those of the base model; after it those of PEFT with the saved adapter."""
    folder: Path = request.getfixturevalue(f"{kind}_folder")
    engine = make_engine(folder)
    create(engine)
    datum = supervised(40)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = _plain_logprobs(plain, datum.tokens, datum.inputs["target_tokens"])
    np.testing.assert_allclose(
        forward_backward(engine, (datum,), forward_only=True)["logprobs"][0], expected, atol=1e-4
    )

    train(engine)
    adapted = PeftModel.from_pretrained(plain, export(engine, tmp_path / "adapter"))
    expected_adapted = _plain_logprobs(adapted, datum.tokens, datum.inputs["target_tokens"])
    ours = forward_backward(engine, (datum,), forward_only=True)["logprobs"][0]
    assert np.abs(expected_adapted - expected).max() > 0.05
    np.testing.assert_allclose(ours, expected_adapted, atol=1e-4)


def test_gradients_add_up_while_other_models_are_at_work(make_engine: MakeEngine) -> None:
    """KNOWLEDGE 6 (gradients lost between forward_backward calls); also SkyRL #2008."""
    lone, shared = make_engine(), make_engine()
    for engine in (lone, shared):
        create(engine, "a")
        train(engine, "a")
    create(shared, "b", rank=8, train_mlp=False, seed=1)
    create(shared, "c", rank=2, train_attn=False, seed=2)
    for step in range(3):
        forward_backward(lone, (supervised(9, seed=step),), model_id="a")
        forward_backward(shared, (supervised(9, seed=step),), model_id="a")
        forward_backward(shared, (policy(6, seed=step),), "ppo", model_id="b")
        forward_backward(shared, (policy(6, seed=step),), "cispo", model_id="c")
        shared.execute(OptimStep(model_id="c", learning_rate=1e-3))
    assert norm(gradients(shared, "a")) > 1
    assert_close(gradients(shared, "a"), gradients(lone, "a"), 0.0)
    assert norm(gradients(shared, "b")) > 0
    for engine in (lone, shared):
        engine.execute(OptimStep(model_id="a", learning_rate=1e-3))
    assert_close(weights(shared, "a"), weights(lone, "a"), 0.0)


def test_only_adapters_learn(engine: Engine, tied_folder: Path) -> None:
    create(engine, "a")
    create(engine, "b", rank=8)
    train(engine, "a")
    train(engine, "b")
    model = engine.base.model
    plain = dict(AutoModelForCausalLM.from_pretrained(tied_folder, dtype=torch.float32).named_parameters())
    seen = 0
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter.cpu(), plain[name.replace(".base.", ".")])
        seen += 1
    assert seen == len(plain)


def test_a_forward_alone_leaves_no_gradient(engine: Engine) -> None:
    create(engine)
    forward_backward(engine, (supervised(5),), forward_only=True)
    assert gradients(engine) == {}


@pytest.mark.parametrize(
    ("flags", "groups"),
    [
        ({"train_mlp": False, "train_unembed": False}, {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ({"train_attn": False, "train_unembed": False}, {"gate_proj", "up_proj", "down_proj"}),
        ({"train_attn": False, "train_mlp": False}, {"lm_head"}),
    ],
)
def test_each_flag_adapts_its_layers(
    flags: dict, groups: set[str], untied_folder: Path, make_engine: MakeEngine
) -> None:
    engine = make_engine(untied_folder)
    create(engine, **flags)
    forward_backward(engine, (supervised(6),))
    trained = {key.split(".")[-3] for key in gradients(engine)}
    assert trained == groups


def test_a_tied_output_embedding_is_left_alone(engine: Engine) -> None:
    create(engine, "with", train_unembed=True)
    create(engine, "without", train_unembed=False)
    assert weights(engine, "with").keys() == weights(engine, "without").keys()
    with pytest.raises(InvalidRequestError, match="tied"):
        create(engine, "nothing", train_attn=False, train_mlp=False)


def test_a_seed_decides_the_first_weights_and_nothing_else(engine: Engine) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    create(engine, "a", seed=1)
    create(engine, "b", seed=1)
    create(engine, "c", seed=2)
    create(engine, "d", seed=None)
    create(engine, "e", seed=None)
    assert torch.equal(before, torch.random.get_rng_state())
    assert_close(weights(engine, "a"), weights(engine, "b"), 0.0)
    first = next(key for key in weights(engine, "a") if "lora_A" in key)
    drawn = [weights(engine, name)[first] for name in "acde"]
    assert len({array.tobytes() for array in drawn}) == 4


def test_recomputing_activations_changes_no_gradient(make_engine: MakeEngine) -> None:
    plain, recomputing = make_engine(), make_engine(gradient_checkpointing=True)
    for engine in (plain, recomputing):
        create(engine)
        train(engine)
        forward_backward(engine, (supervised(20), supervised(6)))
    runs = []
    layer = recomputing.base.model.base_model.layers[0].mlp
    layer.register_forward_pre_hook(lambda *_: runs.append(1))
    forward_backward(recomputing, (supervised(20),))
    forward_backward(plain, (supervised(20),))
    assert len(runs) == 2  # forward, and again for the backward
    assert_close(gradients(recomputing), gradients(plain), 1e-6)


class WithoutCheckpoints(torch.nn.Module):
    """A model none of whose layers can compute again."""

    device = torch.device("cpu")


def test_recomputing_that_was_asked_for_is_done_or_refused() -> None:
    """Silently kept activations would be found as an out-of-memory error, days later."""
    with pytest.raises(ModelSourceError, match=r"WithoutCheckpoints cannot .*train_server\.gradient_checkpointing"):
        Recomputation(WithoutCheckpoints(), always=True)  # pyright: ignore[reportArgumentType]
    for always in (None, False):
        Recomputation(WithoutCheckpoints(), always=always).prepare(10_000)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("checkpointing", [True, False])
def test_no_pass_keeps_a_cache_and_the_models_own_settings_stay(make_engine: MakeEngine, checkpointing: bool) -> None:
    """A cache in training costs memory; a config that was changed for training would cost the next sampler its own."""
    engine = make_engine(gradient_checkpointing=checkpointing)
    settings = engine.base.model.config.to_dict() | {"generation": engine.base.model.generation_config.to_dict()}
    assert settings["use_cache"] is True
    create(engine)
    seen: list[object] = []
    attention = engine.base.model.base_model.layers[0].self_attn
    attention.register_forward_pre_hook(lambda *given: seen.append(given[-1]["past_key_values"]), with_kwargs=True)
    train(engine, steps=1)
    forward_backward(engine, (policy(6),), "ppo", forward_only=True)
    assert seen
    assert set(seen) == {None}
    model = engine.base.model
    assert model.config.to_dict() | {"generation": model.generation_config.to_dict()} == settings


def test_a_call_that_runs_out_of_memory_leaves_the_gradients_of_earlier_calls(make_engine: MakeEngine) -> None:
    """Unlimited work ran SkyRL out of memory (#1873, KNOWLEDGE 6); here that job fails, and the next one runs."""
    engine = make_engine(max_batch_tokens=8)
    create(engine)
    train(engine)
    forward_backward(engine, (supervised(8),))
    before = gradients(engine)
    calls = []

    def second_batch_does_not_fit(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    hook = engine.base.model.base_model.layers[1].register_forward_pre_hook(second_batch_does_not_fit)
    with pytest.raises(EngineError, match=r"out of memory in forward_backward.*max_batch_tokens"):
        forward_backward(engine, (supervised(8, seed=1), supervised(8, seed=2)))
    hook.remove()
    assert len(calls) == 2
    assert_close(gradients(engine), before, 0.0)
    forward_backward(engine, (supervised(8),))
    assert norm(gradients(engine)) == pytest.approx(2 * norm(before), rel=1e-6)


def test_a_loss_that_overflows_is_refused_and_leaves_the_gradients(engine: Engine) -> None:
    create(engine)
    train(engine)
    forward_backward(engine, (policy(8),), "importance_sampling")
    before = gradients(engine)
    overflow = with_inputs(policy(6), logprobs=np.full(6, -1e4, np.float32))
    with pytest.raises(InvalidRequestError, match="not finite"):
        forward_backward(engine, (policy(8, seed=5), overflow), "importance_sampling")
    assert_close(gradients(engine), before, 0.0)


def test_models_come_and_go(engine: Engine) -> None:
    create(engine, "session:train:0.1")
    with pytest.raises(ConflictError, match=r"session:train:0\.1"):
        create(engine, "session:train:0.1")
    train(engine, "session:train:0.1")
    engine.execute(UnloadModel(model_id="session:train:0.1"))
    with pytest.raises(NotFoundError, match=r"session:train:0\.1"):
        forward_backward(engine, (supervised(4),), model_id="session:train:0.1")
    create(engine, "session:train:0.1")
    train(engine, "session:train:0.1")


def test_a_command_of_the_sampler_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="unload_adapter"):
        engine.execute(UnloadAdapter(adapter_id="a"))


def test_only_what_is_too_long_to_keep_is_computed_again(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the layers of a micro-batch twice as long as what is kept, none of a short one."""
    monkeypatch.setattr("metaclaw.training.recomputation._KEPT_ROWS", {"cpu": 16, "cuda": 16})
    engine, keeping = make_engine(), make_engine(gradient_checkpointing=False)
    for each in (engine, keeping):
        create(each)
        train(each)
    runs: list[str] = []
    for index, layer in enumerate(engine.base.model.base_model.layers):
        layer.mlp.register_forward_pre_hook(lambda *_, index=index: runs.append(str(index)))
    forward_backward(engine, (supervised(16),))
    assert runs == ["0", "1"]
    runs.clear()
    forward_backward(engine, (supervised(32),))
    assert sorted(runs) == ["0", "0", "1"]
    for length in (16, 32):
        forward_backward(keeping, (supervised(length),))
    assert_close(gradients(engine), gradients(keeping), 1e-6)
