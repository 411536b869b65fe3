"""The training engine: what each command does to the models.

Owns the models by id and what a command changes; refuses to know the order between commands, frames, processes and
HTTP. Invariant: a command that fails or is abandoned leaves every model as it was before, but for gradients that an
``OptimStep`` had to throw away; and gradients of all models add up until their own ``OptimStep``, whatever other
models' commands come in between.

One thread calls it, and nothing else touches the device. A command is work in steps: between two of them any other
model's command may run, but no other command of the same model.
"""

# pyright: basic

from __future__ import annotations

import hashlib
import logging
import os
import traceback
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from metaclaw.errors import CheckpointError, ConflictError, EngineError, InvalidRequestError, NotFoundError
from metaclaw.training import commands
from metaclaw.training.adapters import Adapters, adapter_files
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.checkpoints import read_checkpoint, write_checkpoint
from metaclaw.training.datums import Example, Limits, read_examples
from metaclaw.training.gated_mlp import thin_blocks
from metaclaw.training.gradients import PassResult, run_passes
from metaclaw.training.logprobs import check_head
from metaclaw.training.losses import LossSettings, loss_settings
from metaclaw.training.optimizers import AdapterOptimizer
from metaclaw.training.recomputation import Recomputation
from metaclaw.training.residence import Budgets, Residence
from metaclaw.training.shared_device import is_out_of_memory
from metaclaw.training.sharing import sharing_bounds
from metaclaw.training.trained_models import TrainedModel, check_spec, filled, manifest_of, optimizer_files, spec_of

# A CPU gains nothing from larger micro-batches: 20 layers of width 576 ran 1,632 tokens in 10.3 s at 256, 9.9 s at 512
# and more than 20 s at 2,048, with peaks of 1.3, 1.8 and 3.5 GB (benchmarks/engine.py, one thread, a busy machine).
_BATCH_TOKENS = {"cpu": 256, "cuda": 8192}
_MIB = 1 << 20

_log = logging.getLogger(__name__)

Answer = dict[str, Any]
Work = Generator[int, None, Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the engine uses its device.

    ``max_batch_tokens`` 0 is the device's own default; ``gradient_checkpointing`` ``None`` is on on a GPU; on a CPU
    long sequences compute some layers again. The memory of adapters 0 is a tenth of the GPU's and a quarter of the
    machine's; without ``spill_dir`` idle adapters never go to disk.
    """

    max_lora_rank: int = 64
    max_batch_tokens: int = 0
    gradient_checkpointing: bool | None = None
    adapter_memory_mb: int = 0
    adapter_host_memory_mb: int = 0
    spill_dir: str = ""


class Engine:
    """Does commands. ``interrupt`` is called between layers, forward and backward; what it raises abandons the pass."""

    def __init__(self, base: LoadedBase, options: EngineOptions) -> None:
        check_head(base.model)
        self.sharing = sharing_bounds(base.model)
        self.base = base
        self._limits = Limits(vocab_size=base.ready.vocab_size, max_context=base.ready.max_context)
        self._batch_tokens = options.max_batch_tokens or _BATCH_TOKENS.get(base.device.type, _BATCH_TOKENS["cpu"])
        self._adapters = Adapters(base, max_rank=options.max_lora_rank)
        thin_blocks(base.model)
        self._recomputation = Recomputation(base.model, always=options.gradient_checkpointing)
        self.residence = Residence(base.device, _budgets(base.device, options))
        self._models: dict[str, TrainedModel] = {}
        self.interrupt: Callable[[], None] = lambda: None
        _before_each_layer(base.model, lambda: self.interrupt())
        self._handlers: dict[type, Callable[[Any], Answer]] = {
            commands.CreateModel: self._create_model,
            commands.LoadModel: self._load_model,
            commands.OptimStep: self._optim_step,
            commands.SaveState: self._save_state,
            commands.SaveSampler: self._save_sampler,
            commands.UnloadModel: self._unload_model,
        }

    @property
    def model_ids(self) -> frozenset[str]:
        return frozenset(self._models)

    def model(self, model_id: str) -> TrainedModel:
        """A model, its tensors on the device."""
        if model_id not in self._models:
            raise NotFoundError(f"the engine has no model {model_id!r}")
        self.residence.use(model_id)
        return self._models[model_id]

    def execute(self, command: commands.Command) -> Answer:
        """Do one command to its end; raises as ``work`` does."""
        work = self.work(command)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value

    def work(self, command: commands.Command) -> Work:
        """Do one command in steps: yields the tokens that each took, returns the answer.

        Raises a ``MetaClawError`` that says whose fault it was. To abandon a command, close its work or raise there.
        """
        try:
            if isinstance(command, commands.ForwardBackward):
                return (yield from self._forward_backward(command))
            handler = self._handlers.get(type(command))
            if handler is None:
                raise InvalidRequestError(
                    f"the engine has no command {command.op!r}; that is the sampler's", param="op"
                )
            return handler(command)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory(command.op, error) from None

    def _create_model(self, command: commands.CreateModel) -> Answer:
        if command.model_id in self._models:
            raise ConflictError(f"the model {command.model_id!r} exists already")
        seed = command.seed if command.seed is not None else _seed_of(command.model_id)
        adapter = self._adapters.create(spec_of(command), seed=seed)
        self._keep(command.model_id, TrainedModel(adapter=adapter, optimizer=AdapterOptimizer(adapter.parameters)))
        return {"num_trainable": adapter.num_trainable}

    def _load_model(self, command: commands.LoadModel) -> Answer:
        manifest, files = read_checkpoint(
            Path(command.directory),
            base_digest=self.base.ready.base_digest,
            base_config_sha256=self.base.config_sha256,
        )
        if manifest.kind != "state":
            raise CheckpointError(
                f"{command.directory} holds weights for the sampler; only a saved state can be loaded"
            )
        spec = spec_of(manifest)
        if command.model_id in self._models:
            adapter = self.model(command.model_id).adapter
            check_spec(spec, adapter.spec, origin=command.directory, model_id=command.model_id)
        else:
            adapter = self._adapters.create(spec, seed=0)
        model = filled(adapter, manifest, files, with_optimizer=command.with_optimizer, origin=command.directory)
        self._keep(command.model_id, model)
        return asdict(spec) | {"num_trainable": adapter.num_trainable}

    def _keep(self, model_id: str, model: TrainedModel) -> None:
        self._models[model_id] = model
        self.residence.add(model_id, model.optimizer)

    def _forward_backward(self, command: commands.ForwardBackward) -> Work:
        model = self.model(command.model_id)
        settings = loss_settings(command.loss, command.config)
        examples = read_examples(command.data, settings, self._limits)
        longest, max_tokens = max(example.length for example in examples), self._batch_tokens
        while True:
            try:
                result = yield from self._attempt(command, model, examples, settings, max_tokens)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or max_tokens <= longest:
                    raise
                # On one GPU what is free is up to the sampler. The largest come first, so little is done twice.
                max_tokens = max(max_tokens // 2, longest)
                _log.warning("out of memory in a pass; tried again with micro-batches of %d tokens", max_tokens)
                self._let_go(error)
            else:
                return {"logprobs": result.logprobs, "metrics": result.metrics}

    def _attempt(
        self, command: commands.ForwardBackward, model: TrainedModel, examples: list[Example], settings: LossSettings,
        max_tokens: int,
    ) -> Generator[int, None, PassResult]:  # fmt: skip
        """All of ``examples``, or nothing."""
        learns = not command.forward_only
        passes = run_passes(
            self.base.model,
            examples,
            settings,
            bounds=self.sharing,
            recomputation=self._recomputation,
            max_tokens=max_tokens,
            backward=learns,
        )
        if learns:
            model.optimizer.begin_pass()
        try:
            result = yield from self._steps(command.model_id, passes)
            if learns:
                model.optimizer.end_pass()
        except BaseException:
            if learns:
                self.residence.use(command.model_id)  # others may have run since
                model.optimizer.abandon_pass()
            raise
        return result

    def _steps(self, model_id: str, passes: Generator[int, None, PassResult]) -> Generator[int, None, PassResult]:
        """``passes``, before each of which the model is brought back to the device and made the active one."""
        while True:
            self._adapters.activate(self.model(model_id).adapter)
            try:
                tokens = next(passes)
            except StopIteration as end:
                return end.value
            yield tokens

    def _optim_step(self, command: commands.OptimStep) -> Answer:
        return {"metrics": self.model(command.model_id).optimizer.step(command)}

    def _save_state(self, command: commands.SaveState) -> Answer:
        model = self.model(command.model_id)
        files = adapter_files(model.adapter, base_name=self._adapters.base_name) | optimizer_files(model)
        written = write_checkpoint(Path(command.directory), files, manifest_of(model, "state", self.base))
        return {"size_bytes": written.size_bytes}

    def _save_sampler(self, command: commands.SaveSampler) -> Answer:
        if command.kind not in ("sampler", "external"):
            raise InvalidRequestError(f"kind must be 'sampler' or 'external', not {command.kind!r}", param="kind")
        model = self.model(command.model_id)
        files = adapter_files(model.adapter, base_name=command.base_name or self._adapters.base_name)
        written = write_checkpoint(Path(command.directory), files, manifest_of(model, command.kind, self.base))
        return {"size_bytes": written.size_bytes}

    def _unload_model(self, command: commands.UnloadModel) -> Answer:
        if command.model_id not in self._models:
            raise NotFoundError(f"the engine has no model {command.model_id!r}")
        self.residence.forget(command.model_id)
        del self._models[command.model_id]
        self._adapters.activate(None)  # which would keep its weights
        return {}

    def _let_go(self, error: Exception) -> None:
        traceback.clear_frames(error.__traceback__)  # whose variables hold what did fit
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()

    def _out_of_memory(self, op: str, error: Exception) -> EngineError:
        self._let_go(error)
        return EngineError(
            f"out of memory in {op} with micro-batches of {self._batch_tokens} tokens; nothing was changed. "
            "Send shorter sequences, or start the engine with fewer max_batch_tokens or with gradient_checkpointing. "
            f"({error})"
        )


def _before_each_layer(model: Any, call: Callable[[], None]) -> None:
    """Have ``call`` called before each layer of a pass, and on the way back: a long sequence takes many seconds."""

    def on_the_way_back(_: torch.Tensor) -> None:
        call()

    def before(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        call()
        if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].requires_grad:
            inputs[0].register_hook(on_the_way_back)

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):  # what transformers calls a decoder's layer
            layer.register_forward_pre_hook(before)


def _budgets(device: torch.device, options: EngineOptions) -> Budgets:
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else 0
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16 << 30
    return Budgets(
        device=options.adapter_memory_mb * _MIB or total // 10,
        host=options.adapter_host_memory_mb * _MIB or machine // 4,
        folder=Path(options.spill_dir) if options.spill_dir else None,
    )


def _seed_of(model_id: str) -> int:
    """A seed for callers that name none: differs between models, the same when the commands are replayed."""
    return int.from_bytes(hashlib.sha256(model_id.encode()).digest()[:4], "little")
