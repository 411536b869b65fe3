"""The training engine: what each command does to the models.

Owns the models by id and the order of effects; refuses to know frames, processes and HTTP. Invariant: a command that
fails leaves every model as it was before, but for gradients that an ``OptimStep`` had to throw away; and gradients
of all models add up until their own ``OptimStep``, whatever other models' commands come in between.

One thread calls it, and nothing else touches the device.
"""

# pyright: basic

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from metaclaw.errors import CheckpointError, ConflictError, EngineError, InvalidRequestError, NotFoundError
from metaclaw.training import commands
from metaclaw.training.adapters import WEIGHTS_FILE, Adapter, Adapters, AdapterSpec, adapter_files, fill_adapter
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.checkpoints import OPTIMIZER_FILE, Kind, Manifest, read_checkpoint, write_checkpoint
from metaclaw.training.datums import Limits, read_examples
from metaclaw.training.gradients import PassResult, run_passes
from metaclaw.training.logprobs import check_head
from metaclaw.training.losses import loss_settings
from metaclaw.training.optimizers import AdapterOptimizer
from metaclaw.training.recomputation import Recomputation
from metaclaw.training.sharing import sharing_bounds

# A CPU gains nothing from larger micro-batches: 20 layers of width 576 ran 1,632 tokens in 10.3 s at 256, 9.9 s at 512
# and more than 20 s at 2,048, with peaks of 1.3, 1.8 and 3.5 GB (benchmarks/engine.py, one thread, a busy machine).
_BATCH_TOKENS = {"cpu": 256, "cuda": 8192}

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the engine uses its device. ``max_batch_tokens`` 0 is the device's own default.

    ``gradient_checkpointing`` ``None`` is on on a GPU; on a CPU long sequences compute some layers again.
    """

    max_lora_rank: int = 64
    max_batch_tokens: int = 0
    gradient_checkpointing: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model: an adapter and its optimiser."""

    adapter: Adapter
    optimizer: AdapterOptimizer


class Engine:
    """Executes commands, one at a time."""

    def __init__(self, base: LoadedBase, options: EngineOptions) -> None:
        check_head(base.model)
        self.sharing = sharing_bounds(base.model)
        self.base = base
        self._limits = Limits(vocab_size=base.ready.vocab_size, max_context=base.ready.max_context)
        self._batch_tokens = options.max_batch_tokens or _BATCH_TOKENS.get(base.device.type, _BATCH_TOKENS["cpu"])
        self._adapters = Adapters(base, max_rank=options.max_lora_rank)
        self._recomputation = Recomputation(base.model, always=options.gradient_checkpointing)
        self.models: dict[str, TrainedModel] = {}
        self._handlers: dict[type, Callable[[Any], Answer]] = {
            commands.CreateModel: self._create_model,
            commands.LoadModel: self._load_model,
            commands.ForwardBackward: self._forward_backward,
            commands.OptimStep: self._optim_step,
            commands.SaveState: self._save_state,
            commands.SaveSampler: self._save_sampler,
            commands.UnloadModel: self._unload_model,
        }

    def execute(self, command: commands.Command) -> Answer:
        """Do one command; raises a ``MetaClawError`` that says whose fault it was."""
        handler = self._handlers.get(type(command))
        if handler is None:
            raise InvalidRequestError(f"the engine has no command {command.op!r}; that is the sampler's", param="op")
        try:
            return handler(command)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._out_of_memory(command.op, error) from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):  # how torch's CPU allocator says it
                raise
            raise self._out_of_memory(command.op, error) from error

    def _create_model(self, command: commands.CreateModel) -> Answer:
        if command.model_id in self.models:
            raise ConflictError(f"the model {command.model_id!r} exists already")
        seed = command.seed if command.seed is not None else _seed_of(command.model_id)
        adapter = self._adapters.create(_spec_of(command), seed=seed)
        self.models[command.model_id] = TrainedModel(adapter=adapter, optimizer=AdapterOptimizer(adapter.parameters))
        return {"num_trainable": adapter.num_trainable}

    def _load_model(self, command: commands.LoadModel) -> Answer:
        manifest, files = read_checkpoint(Path(command.directory), base_digest=self.base.ready.base_digest)
        if manifest.kind != "state":
            raise CheckpointError(
                f"{command.directory} holds weights for the sampler; only a saved state can be loaded"
            )
        spec = _spec_of(manifest)
        existing = self.models.get(command.model_id)
        if existing is not None and existing.adapter.spec != spec:
            was = existing.adapter.spec
            raise CheckpointError(f"{command.directory} does not fit {command.model_id!r}: it has {spec}, not {was}")
        adapter = existing.adapter if existing is not None else self._adapters.create(spec, seed=0)
        self.models[command.model_id] = _filled(adapter, manifest, files, command)
        return asdict(spec) | {"num_trainable": adapter.num_trainable}

    def _forward_backward(self, command: commands.ForwardBackward) -> Answer:
        model = self._model(command.model_id)
        settings = loss_settings(command.loss, command.config)
        examples = read_examples(command.data, settings, self._limits)
        learns = not command.forward_only
        self._adapters.activate(model.adapter)
        with model.optimizer.accumulating() if learns else nullcontext():
            result = _finish(
                run_passes(
                    self.base.model,
                    examples,
                    settings,
                    bounds=self.sharing,
                    recomputation=self._recomputation,
                    max_tokens=self._batch_tokens,
                    backward=learns,
                )
            )
        return {"logprobs": result.logprobs, "metrics": result.metrics}

    def _optim_step(self, command: commands.OptimStep) -> Answer:
        return {"metrics": self._model(command.model_id).optimizer.step(command)}

    def _save_state(self, command: commands.SaveState) -> Answer:
        optimizer = self._model(command.model_id).optimizer
        files = {OPTIMIZER_FILE: safetensors.torch.save(optimizer.export())}
        return self._save(command, "state", files)

    def _save_sampler(self, command: commands.SaveSampler) -> Answer:
        if command.kind not in ("sampler", "external"):
            raise InvalidRequestError(f"kind must be 'sampler' or 'external', not {command.kind!r}", param="kind")
        return self._save(command, command.kind, {}, base_name=command.base_name)

    def _save(
        self,
        command: commands.SaveState | commands.SaveSampler,
        kind: Kind,
        files: dict[str, bytes],
        *,
        base_name: str = "",
    ) -> Answer:
        model = self._model(command.model_id)
        adapter = model.adapter
        manifest = Manifest(
            kind=kind,
            base_digest=self.base.ready.base_digest,
            target_modules=adapter.target_modules,
            step=model.optimizer.num_steps,
            files={},
            **asdict(adapter.spec),
        )
        written = write_checkpoint(
            Path(command.directory),
            adapter_files(adapter, base_name=base_name or self._adapters.base_name) | files,
            manifest,
        )
        return {"size_bytes": written.size_bytes}

    def _unload_model(self, command: commands.UnloadModel) -> Answer:
        self._model(command.model_id)
        self._adapters.activate(None)
        del self.models[command.model_id]
        return {}

    def _model(self, model_id: str) -> TrainedModel:
        if model_id not in self.models:
            raise NotFoundError(f"the engine has no model {model_id!r}")
        return self.models[model_id]

    def _out_of_memory(self, op: str, error: Exception) -> EngineError:
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()
        return EngineError(
            f"out of memory in {op} with micro-batches of {self._batch_tokens} tokens; nothing was changed. "
            "Send shorter sequences, or start the engine with fewer max_batch_tokens or with gradient_checkpointing. "
            f"({error})"
        )


def _finish(passes: Generator[int, None, PassResult]) -> PassResult:
    while True:
        try:
            next(passes)
        except StopIteration as end:
            return end.value


def _filled(adapter: Adapter, manifest: Manifest, files: dict[str, bytes], command: commands.LoadModel) -> TrainedModel:
    """``adapter`` with the checkpoint's weights, and its optimiser or a fresh one. All is checked before any change."""
    optimizer = AdapterOptimizer(adapter.parameters)
    if command.with_optimizer:
        moments = _tensors(command.directory, files, OPTIMIZER_FILE)
        optimizer.restore(moments, num_steps=manifest.step, origin=f"{command.directory}/{OPTIMIZER_FILE}")
    weights = _tensors(command.directory, files, WEIGHTS_FILE)
    fill_adapter(adapter, weights, origin=f"{command.directory}/{WEIGHTS_FILE}")
    optimizer.drop_gradients()  # those of the weights before
    return TrainedModel(adapter=adapter, optimizer=optimizer)


def _tensors(directory: str, files: dict[str, bytes], name: str) -> dict[str, torch.Tensor]:
    if name not in files:
        raise CheckpointError(f"{directory} has no {name}")
    try:
        return safetensors.torch.load(files[name])
    except SafetensorError as error:
        raise CheckpointError(f"{directory}/{name} is not a safetensors file: {error}") from error


def _spec_of(description: commands.CreateModel | Manifest) -> AdapterSpec:
    return AdapterSpec(
        rank=description.rank,
        alpha=description.alpha,
        train_mlp=description.train_mlp,
        train_attn=description.train_attn,
        train_unembed=description.train_unembed,
    )


def _seed_of(model_id: str) -> int:
    """A seed for callers that name none: differs between models, the same when the commands are replayed."""
    return int.from_bytes(hashlib.sha256(model_id.encode()).digest()[:4], "little")
