"""The losses as a naive float64 loop over plain transformers, with LoRA written out as ``W + alpha / rank * B A``.

Shares nothing with the engine but the adapter's file: no PEFT, no batches, no padding, no vectors over tokens.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from metaclaw.training.commands import Datum

_PREFIX = "base_model.model."


class Oracle:
    """One adapter over one base, in float64. ``gradients`` are filled by ``run``."""

    def __init__(self, folder: Path, adapter: Path, *, rank: int, alpha: float) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
        self._model.requires_grad_(False)
        tensors = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
        self._adapter = {key: value.double().requires_grad_() for key, value in tensors.items()}
        self._scale = alpha / rank

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        return {key: value.grad.numpy() for key, value in self._adapter.items()}

    def run(self, data: tuple[Datum, ...], loss: str, **config: float) -> tuple[list[list[float]], float]:
        """Log-probs by datum and target, and the summed loss; its gradients are added to ``gradients``."""
        total = torch.zeros((), dtype=torch.float64)
        logprobs: list[list[float]] = []
        for datum in data:
            logits = self._logits(datum) / config.get("temperature", 1.0)
            lps: list[list[torch.Tensor]] = []
            for position, targets in enumerate(datum.inputs["target_tokens"].reshape(len(datum.tokens), -1)):
                ps = [torch.exp(logits[position][int(t)]) / torch.exp(logits[position]).sum() for t in targets]
                lps.append([torch.log(p) for p in ps])
            logprobs.append([lp.item() for row in lps for lp in row])
            if loss == "gspo":
                total = total + _gspo(lps, datum, config)
                continue
            for position, row in enumerate(lps):
                for column, lp in enumerate(row):
                    total = total + _token_loss(lp, datum, position, column, loss, config)
        total.backward()
        return logprobs, total.item()

    def _logits(self, datum: Datum) -> torch.Tensor:
        parameters = dict(self._model.named_parameters())
        for key, down in self._adapter.items():
            if ".lora_A." in key:
                up = self._adapter[key.replace(".lora_A.", ".lora_B.")]
                name = key.removeprefix(_PREFIX).replace(".lora_A.weight", ".weight")
                parameters[name] = parameters[name] + self._scale * (up @ down)
        tokens = torch.tensor(datum.tokens.astype(np.int64))[None]
        return functional_call(self._model, parameters, (tokens,), {"use_cache": False}).logits[0]


def _token_loss(lp: torch.Tensor, datum: Datum, position: int, column: int, loss: str, config: dict) -> torch.Tensor:
    if loss == "cross_entropy":
        return -lp * float(datum.inputs["weights"].reshape(len(datum.tokens), -1)[position, column])
    q, advantage = float(datum.inputs["logprobs"][position]), float(datum.inputs["advantages"][position])
    if loss == "dro":
        if q == 0 and advantage == 0:
            return torch.zeros((), dtype=torch.float64)
        return -(lp * advantage - 0.5 * config.get("beta", 0.05) * (lp - q) ** 2)
    ratio = torch.exp(lp - q)
    if loss == "importance_sampling":
        return -ratio * advantage
    low = _bound(datum, position, "clip_low_threshold", config, {"ppo": 0.8, "cispo": 0.0}[loss])
    high = _bound(datum, position, "clip_high_threshold", config, {"ppo": 1.2, "cispo": 4.0}[loss])
    if loss == "cispo":
        return -min(max(ratio.item(), low), high) * lp * advantage
    return _clipped(ratio, advantage, low, high)


def _gspo(lps: list[list[torch.Tensor]], datum: Datum, config: dict) -> torch.Tensor:
    marked = [t for t, mark in enumerate(datum.inputs["sequence_ratio_mask"]) if mark]
    gaps = [lps[t][0].item() - float(datum.inputs["logprobs"][t]) for t in marked]
    sequence_ratio = math.exp(sum(gaps) / len(gaps))
    total = torch.zeros((), dtype=torch.float64)
    for t, [lp] in enumerate(lps):
        ratio = sequence_ratio * torch.exp(lp - lp.item())
        low = _bound(datum, t, "clip_low_threshold", config, 1 - 3e-4)
        high = _bound(datum, t, "clip_high_threshold", config, 1 + 4e-4)
        total = total + _clipped(ratio, float(datum.inputs["advantages"][t]), low, high)
    return total


def _clipped(ratio: torch.Tensor, advantage: float, low: float, high: float) -> torch.Tensor:
    if low <= ratio.item() <= high:
        return -ratio * advantage
    clipped = min(max(ratio.item(), low), high) * advantage
    return -torch.tensor(clipped) if clipped < ratio.item() * advantage else -ratio * advantage


def _bound(datum: Datum, position: int, name: str, config: dict, default: float) -> float:
    if name in datum.inputs:
        return float(datum.inputs[name][position])
    value = config.get(name, default)
    assert math.isfinite(value)
    return value
