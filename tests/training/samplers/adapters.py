"""Adapters for tests: made and written by PEFT itself, with weights that change every answer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from metaclaw.training.checkpoints import Manifest, write_checkpoint

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_adapter(base: Path, directory: Path, *, seed: int, rank: int = 4, targets=ALL_LINEAR, **options) -> Path:
    """Write an adapter for the model in ``base`` whose B matrices are not zero."""
    config = LoraConfig(r=rank, lora_alpha=options.pop("alpha", 32), target_modules=list(targets), **options)
    with _outdated_warning_ignored():
        model = get_peft_model(plain_model(base), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_pretrained(directory, save_embedding_layers=False)
    return directory


def plain_model(base: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval().requires_grad_(False)


def peft_model(base: Path, adapter: Path | None):
    """The oracle: transformers, with PEFT's own layers where an adapter is given."""
    model = plain_model(base)
    if adapter is None:
        return model
    with _outdated_warning_ignored():
        return PeftModel.from_pretrained(model, adapter).eval()


def files_of(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def publish(adapter: Path, directory: Path, base_digest: str) -> Path:
    """The adapter as the engine would hand it over: with a manifest, in a new directory."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    manifest = Manifest(
        kind="sampler", base_digest=base_digest, rank=config["r"], alpha=config["lora_alpha"], train_mlp=True,
        train_attn=True, train_unembed=False, target_modules=tuple(config["target_modules"]), step=1, files={},
    )  # fmt: skip
    write_checkpoint(directory, files_of(adapter), manifest)
    return directory


@contextmanager
def _outdated_warning_ignored() -> Iterator[None]:
    # peft 0.21 asks transformers 5.23 by an older name whether activations are checkpointed.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield
