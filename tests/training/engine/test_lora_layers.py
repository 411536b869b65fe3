"""Our LoRA layers against PEFT's: the same outputs and gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from metaclaw.training.adapters import CONFIG_FILE, Adapters, AdapterSpec, adapter_files
from metaclaw.training.base_model import load_base
from tests.training.device import DEVICE
from tests.training.engine.material import VOCABULARY

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own

SPECS = {
    "all": AdapterSpec(rank=4, alpha=32.0, train_mlp=True, train_attn=True, train_unembed=True),
    "attn": AdapterSpec(rank=1, alpha=1.0, train_mlp=False, train_attn=True, train_unembed=False),
    "mlp": AdapterSpec(rank=16, alpha=2.5, train_mlp=True, train_attn=False, train_unembed=False),
    "unembed": AdapterSpec(rank=8, alpha=64.0, train_mlp=False, train_attn=False, train_unembed=True),
}


def _peft(folder: Path, adapter: Path, dtype: torch.dtype) -> PeftModel:
    """PEFT over a base of its own; it loads trainable adapters in float32 whatever the base is."""
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    return PeftModel.from_pretrained(plain, adapter, is_trainable=True)


def _run(model: torch.nn.Module, tokens: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    logits = model(input_ids=tokens.to(model.device), use_cache=False).logits
    assert logits.dtype == dtype
    logits.float().log_softmax(-1)[..., 0].square().sum().backward()
    return logits.detach().cpu()


def _assert_near(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> None:
    scale = max(float(theirs.abs().max()), 1e-6)
    assert float((ours - theirs).abs().max()) / scale < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_mixed_adapters_compute_and_learn_what_pefts_do(
    untied_folder: Path, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    """Four adapters in turn over one base, against PEFT over a fresh base each. bfloat16 rounds each layer's output."""
    base = load_base(untied_folder, device=DEVICE, dtype=dtype)
    ours = Adapters(base, max_rank=64)
    tokens = torch.arange(24).reshape(2, 12) * 7 % VOCABULARY
    made = {name: ours.create(spec, seed=1) for name, spec in SPECS.items()}
    for number, (name, adapter) in enumerate(made.items()):
        noise = torch.Generator().manual_seed(number)
        for layer in adapter.layers.values():
            layer.up.data.copy_(torch.empty(layer.up.shape).normal_(0, 0.05, generator=noise))
        (tmp_path / name).mkdir()
        for file, body in adapter_files(adapter, base_name="base").items():
            (tmp_path / name / file).write_bytes(body)
    for name, adapter in made.items():
        ours.activate(adapter)
        logits = _run(base.model, tokens, getattr(torch, dtype))
        peft = _peft(untied_folder, tmp_path / name, getattr(torch, dtype))
        _assert_near(logits, _run(peft, tokens, getattr(torch, dtype)), tolerance)
        theirs = {
            key.replace(".default.", "."): value.grad for key, value in peft.named_parameters() if value.requires_grad
        }
        assert {value.dtype for value in theirs.values()} == {torch.float32}
        assert theirs.keys() == adapter.parameters.keys()
        for key, parameter in adapter.parameters.items():
            assert parameter.grad is not None, key
            assert parameter.grad.dtype == torch.float32
            _assert_near(parameter.grad.cpu(), theirs[key], tolerance)


def test_the_layers_of_no_adapter_are_the_base(untied_folder: Path) -> None:
    base = load_base(untied_folder, device=DEVICE, dtype="float32")
    tokens = torch.arange(12, device=DEVICE)[None]
    with torch.no_grad():
        before = base.model(tokens).logits
        ours = Adapters(base, max_rank=64)
        adapter = ours.create(SPECS["all"], seed=1)
        for layer in adapter.layers.values():
            layer.up.normal_()
        ours.activate(adapter)
        assert not torch.allclose(before, base.model(tokens).logits)
        ours.activate(None)
        assert torch.equal(before, base.model(tokens).logits)


def test_an_adapter_begins_as_pefts_do(tied_folder: Path) -> None:
    """B is zero; A is uniform within 1/sqrt(inputs), as PEFT's is (with other bits for the same seed)."""
    base = load_base(tied_folder, device=DEVICE, dtype="float32")
    config = LoraConfig(r=64, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = dict(get_peft_model(AutoModelForCausalLM.from_pretrained(tied_folder), config).named_parameters())
    adapter = Adapters(base, max_rank=64).create(
        AdapterSpec(rank=64, alpha=32.0, train_mlp=True, train_attn=True, train_unembed=False), seed=3
    )
    for layer in ("self_attn.q_proj", "mlp.down_proj"):
        key = f"base_model.model.model.layers.0.{layer}"
        down, up = (adapter.parameters[f"{key}.lora_{which}.weight"] for which in "AB")
        reference = theirs[f"{key}.lora_A.default.weight"]
        assert not up.any()
        bound = down.shape[1] ** -0.5
        assert 0.98 * bound < down.abs().max() <= bound
        assert float(down.detach().std() / reference.detach().std()) == pytest.approx(1, abs=0.03)
        assert abs(float(down.detach().mean())) < 0.05 * bound


def test_the_file_has_what_servers_read(tied_folder: Path) -> None:
    adapters = Adapters(load_base(tied_folder, device=DEVICE, dtype="float32"), max_rank=64)
    adapter = adapters.create(SPECS["mlp"], seed=1)
    files = adapter_files(adapter, base_name="acme/base")
    config = json.loads(files[CONFIG_FILE])
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (16, 2.5, "LORA")
    assert sorted(config["target_modules"]) == ["down_proj", "gate_proj", "up_proj"]
    tensors = safetensors.torch.load(files["adapter_model.safetensors"])
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
