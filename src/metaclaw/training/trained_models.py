"""A model under training, and its way from and to checkpoints.

Owns what of a model is saved and how it is filled again; refuses to know files' integrity and which models exist.
Invariant: a load that fails has changed nothing.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import safetensors.torch
import torch
from safetensors import SafetensorError

from metaclaw.errors import CheckpointError
from metaclaw.training.adapters import WEIGHTS_FILE, Adapter, AdapterSpec, fill_adapter
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.checkpoints import OPTIMIZER_FILE, Kind, Manifest
from metaclaw.training.commands import CreateModel
from metaclaw.training.optimizers import AdapterOptimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model: an adapter and its optimiser."""

    adapter: Adapter
    optimizer: AdapterOptimizer


def spec_of(description: CreateModel | Manifest) -> AdapterSpec:
    """The part of a command or a manifest that says what an adapter is."""
    return AdapterSpec(**{field.name: getattr(description, field.name) for field in fields(AdapterSpec)})


def manifest_of(model: TrainedModel, kind: Kind, base: LoadedBase) -> Manifest:
    """What a checkpoint of ``model`` says of itself, but for its files."""
    return Manifest(
        kind=kind,
        base_digest=base.ready.base_digest,
        base_config_sha256=base.config_sha256,
        base_revision=base.revision,
        target_modules=model.adapter.target_modules,
        step=model.optimizer.num_steps,
        files={},
        **asdict(model.adapter.spec),
    )


def optimizer_files(model: TrainedModel) -> dict[str, bytes]:
    """The moments. Gradients that no step used yet are not part of a state."""
    return {OPTIMIZER_FILE: safetensors.torch.save(model.optimizer.export())}


def filled(
    adapter: Adapter, manifest: Manifest, files: Mapping[str, bytes], *, with_optimizer: bool, origin: str
) -> TrainedModel:
    """``adapter`` with the checkpoint's weights, and its optimiser or a fresh one. All is checked before any change."""
    optimizer = AdapterOptimizer(adapter.parameters)
    if with_optimizer:
        moments = _tensors(origin, files, OPTIMIZER_FILE)
        optimizer.restore(moments, num_steps=manifest.step, origin=f"{origin}/{OPTIMIZER_FILE}")
    weights = _tensors(origin, files, WEIGHTS_FILE)
    fill_adapter(adapter, weights, origin=f"{origin}/{WEIGHTS_FILE}")
    optimizer.drop_gradients()  # those of the weights before
    return TrainedModel(adapter=adapter, optimizer=optimizer)


def check_spec(there: AdapterSpec, here: AdapterSpec, *, origin: str, model_id: str) -> None:
    """Raise ``CheckpointError`` that names the first difference."""
    for field in fields(AdapterSpec):
        theirs, ours = getattr(there, field.name), getattr(here, field.name)
        if theirs != ours:
            raise CheckpointError(f"{origin} does not fit {model_id!r}: its {field.name} is {theirs}, not {ours}")


def _tensors(origin: str, files: Mapping[str, bytes], name: str) -> dict[str, torch.Tensor]:
    if name not in files:
        raise CheckpointError(f"{origin} has no {name}")
    try:
        return safetensors.torch.load(files[name])
    except SafetensorError as error:
        raise CheckpointError(f"{origin}/{name} is not a safetensors file: {error}") from error
