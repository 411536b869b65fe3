"""LoRA adapters of many models over one frozen base.

Owns which layers are adapted, how an adapter begins, which one the next forward uses, and its form as PEFT's files;
refuses to know the arithmetic, gradients' use and checkpoints' layout. Invariant: what is written here is an adapter
that PEFT and servers of its format load, and that computes there what it computes here.

``train_attn`` adapts the linear layers of attention, ``train_mlp`` the other linear layers of the decoder,
``train_unembed`` the output embedding where it is a weight of its own. Where it is tied to the input embedding it is
left alone: an adapter on one of the two would untie them, and no server could merge or serve that.

Adapters are float32 whatever the base is: steps of a learning rate of 1e-4 are lost in bfloat16.
"""

# pyright: basic

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from metaclaw.errors import CheckpointError, EngineError, InvalidRequestError
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.lora_layers import LoraWeights, wrap_layers

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_ROUTERS = frozenset({"gate", "router"})  # of mixtures of experts: no server applies LoRA to them


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """What a caller chooses of an adapter."""

    rank: int
    alpha: float
    train_mlp: bool
    train_attn: bool
    train_unembed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One adapter. ``parameters`` are its trained weights under the names they have in PEFT's file."""

    spec: AdapterSpec
    target_modules: tuple[str, ...]
    layers: dict[str, LoraWeights]
    parameters: dict[str, nn.Parameter]

    @property
    def num_trainable(self) -> int:
        return sum(layer.down.numel() + layer.up.numel() for layer in self.layers.values())


class Adapters:
    """Makes adapters for one base, and says which of them its layers apply. One thread only."""

    def __init__(self, base: LoadedBase, *, max_rank: int) -> None:
        self.base_name = str(base.path)
        self._device = base.device
        self._max_rank = max_rank
        self._layers = _linear_layers(base.model, with_output=not base.ready.tied_embeddings)
        self._switch, self._shapes = wrap_layers(base.model, self._layers)

    def create(self, spec: AdapterSpec, *, seed: int) -> Adapter:
        """A new adapter that changes nothing yet (its B matrices are zero). The global random state is not used."""
        chosen = self._chosen(spec)
        random = torch.Generator().manual_seed(seed)  # of the CPU, whatever the device: same seed, same weights
        layers = {name: self._first_weights(spec, self._shapes[name], random) for name in chosen}
        parameters: dict[str, nn.Parameter] = {}
        for name, layer in layers.items():
            parameters[f"base_model.model.{name}.lora_A.weight"] = layer.down
            parameters[f"base_model.model.{name}.lora_B.weight"] = layer.up
        targets = _short_names(chosen, [layer for layer in self._layers if layer not in chosen])
        return Adapter(spec=spec, target_modules=tuple(targets), layers=layers, parameters=parameters)

    def activate(self, adapter: Adapter | None) -> None:
        """Make one adapter the next forward's, or none."""
        self._switch.active = {} if adapter is None else adapter.layers

    def _first_weights(self, spec: AdapterSpec, shape: tuple[int, int], random: torch.Generator) -> LoraWeights:
        outputs, inputs = shape
        down = torch.empty(spec.rank, inputs)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=random)  # PEFT's own choice
        return LoraWeights(
            down=nn.Parameter(down.to(self._device)),
            up=nn.Parameter(torch.zeros(outputs, spec.rank, device=self._device)),
            scale=spec.alpha / spec.rank,
        )

    def _chosen(self, spec: AdapterSpec) -> list[str]:
        if not 1 <= spec.rank <= self._max_rank:
            message = f"rank must be between 1 and {self._max_rank} on this server, not {spec.rank!r}"
            raise InvalidRequestError(message, param="rank")
        if not (math.isfinite(spec.alpha) and spec.alpha > 0):
            raise InvalidRequestError(f"alpha must be a number above 0, not {spec.alpha!r}", param="alpha")
        wanted = {"attn": spec.train_attn, "mlp": spec.train_mlp, "unembed": spec.train_unembed}
        chosen = [layer for layer, group in self._layers.items() if wanted[group]]
        if not chosen:
            tied = " (the output embedding is tied, so train_unembed alone trains nothing)" * spec.train_unembed
            raise InvalidRequestError(f"nothing to train: set train_attn or train_mlp{tied}", param="train_attn")
        return chosen


def adapter_files(adapter: Adapter, *, base_name: str) -> dict[str, bytes]:
    """The adapter in PEFT's format; refuses weights that are not finite, naming the first of them."""
    for key, parameter in adapter.parameters.items():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"the adapter has NaN or infinity in {key}; it is not saved")
    alpha = adapter.spec.alpha
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": adapter.spec.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "target_modules": adapter.target_modules,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    return {
        CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True).encode(),
        WEIGHTS_FILE: safetensors.torch.save({key: _portable(value) for key, value in adapter.parameters.items()}),
    }


@torch.no_grad()
def fill_adapter(adapter: Adapter, tensors: Mapping[str, Tensor], *, origin: str) -> None:
    """Copy ``tensors`` into the adapter; raises ``CheckpointError`` before changing any if they do not fit."""
    check_tensors(tensors, {key: parameter.shape for key, parameter in adapter.parameters.items()}, origin=origin)
    for key, parameter in adapter.parameters.items():
        parameter.copy_(tensors[key])


def check_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], *, origin: str) -> None:
    """Raise ``CheckpointError`` unless ``tensors`` are exactly those of ``shapes``, finite."""
    for key in sorted(tensors.keys() ^ shapes.keys()):
        raise CheckpointError(f"{origin}: {key} is {'missing' if key in shapes else 'not part of this adapter'}")
    for key, shape in shapes.items():
        if tensors[key].shape != shape:
            raise CheckpointError(f"{origin}: {key} has the shape {tuple(tensors[key].shape)}, not {tuple(shape)}")
        if not torch.isfinite(tensors[key]).all():
            raise CheckpointError(f"{origin}: {key} has NaN or infinity")


def _portable(parameter: Tensor) -> Tensor:
    return parameter.detach().to("cpu").contiguous()


def _linear_layers(model: PreTrainedModel, *, with_output: bool) -> dict[str, str]:
    """Every linear layer that may be adapted, with its group: attn, mlp or unembed."""
    output = model.get_output_embeddings()
    layers: dict[str, str] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name.rpartition(".")[2] in _ROUTERS:
            continue
        if module is output:
            if with_output:
                layers[name] = "unembed"
        else:
            layers[name] = "attn" if "attn" in name or "attention" in name else "mlp"
    if not layers.keys() - {"unembed"}:
        raise EngineError(f"{type(model).__name__} has no linear layers that LoRA could adapt")
    return layers


def _short_names(chosen: list[str], others: list[str]) -> list[str]:
    """Last components where they tell the groups apart (what servers expect), else full names."""
    short = sorted({layer.rpartition(".")[2] for layer in chosen})
    clash = any(layer.rpartition(".")[2] in short for layer in others)
    return sorted(chosen) if clash else short
