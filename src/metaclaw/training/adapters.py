"""LoRA adapters of many models over one frozen base.

Owns PEFT: which layers are adapted, how an adapter is initialised, which one the next forward uses, and its form as
files; refuses to know gradients' use and checkpoints' layout. Invariant: base weights are never changed and never
require a gradient, and an adapter's name inside PEFT is never used twice.

``train_attn`` adapts the linear layers of attention, ``train_mlp`` the other linear layers of the decoder,
``train_unembed`` the output embedding where it is a weight of its own. Where it is tied to the input embedding it is
left alone: an adapter on one of the two would untie them, and no server could merge or serve that.
"""

# pyright: basic

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors.torch
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from metaclaw.errors import CheckpointError, EngineError, InvalidRequestError
from metaclaw.training.base_model import LoadedBase

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_IDLE = "idle"  # PEFT wants one adapter at all times; this one has rank 1, sits on one layer, and is never trained
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

    name: str  # inside PEFT
    spec: AdapterSpec
    config: LoraConfig
    parameters: dict[str, nn.Parameter]

    @property
    def target_modules(self) -> tuple[str, ...]:
        return tuple(sorted(self.config.target_modules or ()))

    @property
    def num_trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values())


class AdapterPool:
    """The adapters that exist, and the one that is active. One thread only."""

    def __init__(self, base: LoadedBase, *, max_rank: int) -> None:
        self._base = base
        self._max_rank = max_rank
        self._layers = _linear_layers(base.model, with_output=not base.ready.tied_embeddings)
        self._peft = _wrap(base.model, next(iter(self._layers)))
        self._num_created = 0
        self._active = _IDLE

    def create(self, spec: AdapterSpec, *, seed: int) -> Adapter:
        """Add an adapter that changes nothing yet (its B matrices are zero). The global random state is kept."""
        config = self._configure(spec)
        name = f"adapter{self._num_created}"  # a model id may hold dots, which module names must not
        self._num_created += 1
        with torch.random.fork_rng(devices=[]):  # PEFT draws on the CPU, whatever the device: same seed, same weights
            torch.manual_seed(seed)
            self._peft.add_adapter(name, config)
        self._active = ""
        self.activate(_IDLE)
        parameters = {
            key.replace(f".{name}.", "."): parameter
            for key, parameter in self._peft.named_parameters()
            if f".{name}." in key
        }
        return Adapter(name=name, spec=spec, config=config, parameters=parameters)

    def activate(self, name: str) -> None:
        """Make one adapter the next forward's. Never between a forward and its backward: that loses every gradient."""
        if name != self._active:
            self._peft.set_adapter(name)
            self._active = name

    def delete(self, adapter: Adapter) -> None:
        """Take an adapter out of the model and free its memory."""
        self.activate(_IDLE)
        self._peft.delete_adapter(adapter.name)

    def _configure(self, spec: AdapterSpec) -> LoraConfig:
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
        return LoraConfig(
            r=spec.rank,
            lora_alpha=int(spec.alpha) if spec.alpha == int(spec.alpha) else spec.alpha,  # pyright: ignore[reportArgumentType] - PEFT divides it by the rank
            lora_dropout=0.0,
            target_modules=_short_names(chosen, [layer for layer in self._layers if layer not in chosen]),
            task_type="CAUSAL_LM",
            base_model_name_or_path=str(self._base.path),
        )


def adapter_files(adapter: Adapter, *, base_name: str = "") -> dict[str, bytes]:
    """The adapter in PEFT's format; refuses weights that are not finite, naming the first of them."""
    for key, parameter in adapter.parameters.items():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"the adapter has NaN or infinity in {key}; it is not saved")
    config = adapter.config.to_dict() | {"inference_mode": True}
    if base_name:
        config["base_model_name_or_path"] = base_name
    return {
        CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True, default=sorted).encode(),
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


def _wrap(model: PreTrainedModel, any_layer: str) -> PeftModel:
    config = LoraConfig(r=1, target_modules=[any_layer], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 by an older name whether activations are checkpointed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return PeftModel(model, config, adapter_name=_IDLE).eval()  # pyright: ignore[reportReturnType] - eval returns Module


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
