"""The thin feed-forward block against transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from metaclaw.training.adapters import Adapters, AdapterSpec
from metaclaw.training.base_model import load_base
from metaclaw.training.gated_mlp import thin_blocks
from tests.training.device import DEVICE
from tests.training.engine.material import VOCABULARY

SPECS = {
    "mlp": AdapterSpec(rank=4, alpha=32.0, train_mlp=True, train_attn=True, train_unembed=True),
    "no mlp": AdapterSpec(rank=4, alpha=32.0, train_mlp=False, train_attn=True, train_unembed=False),
}


def run(model: torch.nn.Module) -> torch.Tensor:
    tokens = torch.arange(24, device=DEVICE).reshape(2, 12) * 7 % VOCABULARY
    logits = model(input_ids=tokens, use_cache=False).logits
    logits.float().log_softmax(-1)[..., 0].square().sum().backward()
    return logits.detach()


def near(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    return float((ours - theirs).abs().max()) <= tolerance * max(float(theirs.abs().max()), 1e-6)


@pytest.mark.parametrize("which", list(SPECS))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 0.05)])
def test_a_thin_block_computes_and_learns_what_transformers_own_does(
    untied_folder: Path, which: str, dtype: str, tolerance: float
) -> None:
    results = []
    for thin in (False, True):
        base = load_base(untied_folder, device=DEVICE, dtype=dtype)
        adapters = Adapters(base, max_rank=64)
        if thin:
            assert thin_blocks(base.model) == 2
        adapter = adapters.create(SPECS[which], seed=1)
        noise = torch.Generator().manual_seed(2)
        for layer in adapter.layers.values():
            layer.up.data.copy_(torch.empty(layer.up.shape).normal_(0, 0.05, generator=noise))
        plain = run_without(adapters, base.model)
        adapters.activate(adapter)
        logits = run(base.model)
        results.append((plain, logits, {key: value.grad for key, value in adapter.parameters.items()}))
    (plain, logits, grads), (thin_plain, thin_logits, thin_grads) = results
    assert near(thin_plain, plain, tolerance)
    assert near(thin_logits, logits, tolerance)
    for key, grad in grads.items():
        assert grad.dtype == thin_grads[key].dtype == torch.float32
        assert near(thin_grads[key], grad, tolerance), key


def run_without(adapters: Adapters, model: torch.nn.Module) -> torch.Tensor:
    adapters.activate(None)
    with torch.no_grad():
        return model(input_ids=torch.arange(12, device=DEVICE)[None], use_cache=False).logits


def test_a_thin_block_keeps_two_wide_tensors_of_four(untied_folder: Path) -> None:
    kept: dict[bool, set[int]] = {False: set(), True: set()}
    for thin, seen in kept.items():
        base = load_base(untied_folder, device=DEVICE, dtype="float32")
        adapters = Adapters(base, max_rank=64)
        if thin:
            thin_blocks(base.model)
        adapters.activate(adapters.create(SPECS["mlp"], seed=1))

        wide = 2 * 50 * base.model.config.intermediate_size

        def keep(tensor: torch.Tensor, seen: set[int] = seen, wide: int = wide) -> torch.Tensor:
            if tensor.numel() == wide:
                seen.add(tensor.data_ptr())
            return tensor

        inputs = torch.randn(2, 50, base.model.config.hidden_size, requires_grad=True, device=DEVICE)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = base.model.base_model.layers[0].mlp(inputs)
        outputs.sum().backward()
    assert [len(seen) for seen in kept.values()] == [4, 2]


@pytest.mark.parametrize(
    ("name", "settings", "number"),
    [("llama", {}, 2), ("qwen2", {}, 2), ("qwen3", {}, 2), ("mistral", {}, 2), ("llama", {"hidden_act": "gelu"}, 0),
     ("gemma", {}, 0)],
)  # fmt: skip
def test_only_blocks_that_are_known_become_thin(name: str, settings: dict, number: int) -> None:
    config = AutoConfig.for_model(
        name, vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, **settings,
    )  # fmt: skip
    assert thin_blocks(AutoModelForCausalLM.from_config(config)) == number
