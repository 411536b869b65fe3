"""A LoRA adapter in PEFT's file format, as it is served.

Owns what of that format is served (plain LoRA on linear layers) and the folding of the scaling; refuses to know
disks, slots and requests. Invariant: what cannot be served exactly as PEFT would is refused, never approximated.
"""

# pyright: basic

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from metaclaw.errors import CheckpointError
from metaclaw.training.samplers.adapter_config import read_config

_PREFIX = "base_model.model."
_DOWN = ".lora_A.weight"
_UP = ".lora_B.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraPair:
    """One layer's adapter: the layer adds ``up @ (down @ x)``. ``down`` (r, in); ``up`` (out, r), scaling folded in."""

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        return self.down.shape[0]


AdapterWeights = dict[str, LoraPair]  # by the name of the base model's layer


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """An adapter whose names and settings have been checked, and whose weights have not."""

    origin: str
    config: dict[str, Any]
    downs: dict[str, Tensor]  # by the name of the base model's layer
    ups: dict[str, Tensor]


def read_adapter(files: Mapping[str, bytes], *, origin: str) -> AdapterWeights:
    """Decode the content of ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises ``CheckpointError``, whose text begins with ``origin``.
    """
    return dict(read_layers(open_adapter(files, origin=origin)))


def open_adapter(files: Mapping[str, bytes], *, origin: str) -> AdapterFile:
    """The quick part of ``read_adapter``; raises as it does."""
    config = read_config(files, origin=origin)
    tensors = _read_tensors(files, origin)
    downs = {_layer_name(key, _DOWN): value for key, value in tensors.items() if key.endswith(_DOWN)}
    ups = {_layer_name(key, _UP): value for key, value in tensors.items() if key.endswith(_UP)}
    if len(downs) + len(ups) != len(tensors) or downs.keys() != ups.keys() or not downs:
        odd = sorted(key for key in tensors if not key.endswith((_DOWN, _UP))) or sorted(downs.keys() ^ ups.keys())
        raise CheckpointError(f"{origin} is not a plain LoRA adapter: {odd[:3] or 'it has no layers'}")
    return AdapterFile(origin=origin, config=config, downs=downs, ups=ups)


def read_layers(file: AdapterFile) -> Iterator[tuple[str, LoraPair]]:
    """The slow part of ``read_adapter``, one layer at a time; raises as it does."""
    for name in file.downs:
        yield name, _pair(file.origin, name, file.downs[name], file.ups[name], file.config)


def _read_tensors(files: Mapping[str, bytes], origin: str) -> dict[str, Tensor]:
    try:
        return load(files["adapter_model.safetensors"])
    except (KeyError, SafetensorError) as error:
        raise CheckpointError(f"{origin} has no readable adapter_model.safetensors: {error!r}") from error


def _layer_name(key: str, suffix: str) -> str:
    return key.removeprefix(_PREFIX).removesuffix(suffix)


def _pair(origin: str, name: str, down: Tensor, up: Tensor, config: dict[str, Any]) -> LoraPair:
    if down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1]:
        raise CheckpointError(f"{origin}: {name} has shapes {tuple(down.shape)} and {tuple(up.shape)}")
    if not (down.isfinite().all() and up.isfinite().all()):
        raise CheckpointError(f"{origin}: {name} has weights that are not finite")
    rank = down.shape[0]
    scaling = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return LoraPair(down=down.to(torch.float32), up=up.to(torch.float32) * scaling)
