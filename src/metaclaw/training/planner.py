"""How much memory the training server needs for a model, before anything is loaded.

Owns the formulas, in bytes; refuses to know devices' real sizes and how a plan is shown (``planner_report``).
Invariant: every figure has the formula that made it beside it, and none needs torch.

The formulas are those of this engine and this sampler, with constants measured on them (benchmarks/README.md, "The plan
against what was measured"): activations are what autograd keeps of a Llama-like decoder with LoRA on all its linear
layers, frozen base weights keeping nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metaclaw.training.model_shape import ModelShape

Kind = Literal["cpu", "cuda"]
Process = Literal["engine", "sampler"]

MIB = 1 << 20
BATCH_TOKENS = {"cpu": 256, "cuda": 8192}  # metaclaw.training.engine: tokens of a micro-batch
LOGITS_CHUNK = 1 << 24  # metaclaw.training.logprobs: logits of one chunk
PREFILL_TOKENS = {"cpu": 512, "cuda": 4096}  # metaclaw.training.samplers.process: of one chunk of prompts
SCORED_LOGITS = 1 << 26  # metaclaw.training.samplers.process: of one chunk of prompts that are scored
CACHE_SHARE = {"cpu": 0.25, "cuda": 0.8}  # metaclaw.training.samplers.process: rows wait beyond it
KEPT_SHARE = 0.25  # of that, for answers that have ended
RUNTIME_BYTES = {"cpu": 350 * MIB, "cuda": 600 * MIB}  # Python with torch, measured; a CUDA context beside it, about
VLLM_RUNTIME_BYTES = {"cpu": 1800 * MIB, "cuda": 2000 * MIB}  # about: 1.5 GB on a CPU while it loaded
_FLOAT32 = 4
# float32 values kept per token and layer for the backward pass: of the widths hidden, all heads, and the MLP's.
_KEPT_HIDDEN, _KEPT_HEADS, _KEPT_MLP = 7, 6, 2
_LOGIT_COPIES = 3  # a chunk's logits, their log-softmax, its gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm:
    """What vLLM is started with."""

    max_rank: int  # for which it makes room, whatever an adapter has
    max_loras: int  # in one batch
    kv_cache_bytes: int = 0  # 0 on a GPU: what is free there


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the server is asked to bear at once."""

    kind: Kind
    base_bytes: int  # of one base weight: 4 is float32, 2 bfloat16
    rank: int = 32
    num_trained: int = 1  # models in training, each with its optimiser
    num_served: int = 4  # adapters in the sampler: a version, those before it, one being loaded
    context: int = 4096  # longest sequence, in training and in answers
    rows: int = 8  # sequences decoded at once
    checkpointing: bool = False
    batch_tokens: int = 0  # of a micro-batch; 0 is the device's own default
    kept_mb: int = -1  # train_server.prefix_cache_mb
    vllm: Vllm | None = None  # the sampler, where it is not ours
    memory_bytes: int = 0  # of the sampler's device, 0 is unknown: the sampler takes no more of it than CACHE_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One part of the memory of one process."""

    process: Process
    name: str
    size_bytes: int
    formula: str


def engine_items(shape: ModelShape, load: Workload) -> list[Item]:
    """What the engine holds at the peak of a pass."""
    trained = load.num_trained * shape.adapter_parameters(load.rank)
    num_tokens = max(load.batch_tokens or BATCH_TOKENS[load.kind], load.context)
    return [
        _base(shape, load, "engine"),
        Item(
            process="engine", name="adapters", size_bytes=trained * _FLOAT32,
            formula=f"{load.num_trained} x rank {load.rank} x {shape.adapted_widths} widths x 4 B",
        ),
        Item(process="engine", name="gradients", size_bytes=trained * _FLOAT32, formula="as the adapters"),
        Item(process="engine", name="optimiser", size_bytes=2 * trained * _FLOAT32, formula="two moments, float32"),
        _activations(shape, load, num_tokens),
        Item(
            process="engine", name="logits chunk", size_bytes=_logits_bytes(shape, num_tokens),
            formula=f"{_LOGIT_COPIES} x min(tokens x vocabulary, {LOGITS_CHUNK}) x 4 B",
        ),
        _runtime(load, "engine"),
    ]  # fmt: skip


def sampler_items(shape: ModelShape, load: Workload, *, maps_the_engines_weights: bool) -> list[Item]:
    """What the transformers sampler holds with all rows full. Mapped weights are the engine's pages, counted there."""
    base = _base(shape, load, "sampler")
    if maps_the_engines_weights:
        base = Item(process="sampler", name=base.name, size_bytes=0, formula="mapped: the engine's own pages")
    served = load.num_served * shape.adapter_parameters(load.rank)
    running = load.rows * load.context * shape.kv_bytes_per_token(load.base_bytes)
    kept = load.kept_mb * MIB if load.kept_mb >= 0 else int(load.memory_bytes * CACHE_SHARE[load.kind] * KEPT_SHARE)
    wanted = running + kept
    most = int(load.memory_bytes * CACHE_SHARE[load.kind]) or wanted
    one_row = load.context * shape.kv_bytes_per_token(load.base_bytes)  # a single sequence is never refused
    cap = "" if most >= wanted else f", at most {CACHE_SHARE[load.kind]:.0%} of the memory"
    chunk = PREFILL_TOKENS[load.kind]
    scored = min(chunk, SCORED_LOGITS // shape.vocab_size)
    token_bytes = (4 * shape.hidden + 3 * shape.intermediate) * load.base_bytes
    logit_bytes = 2 * _FLOAT32 + (load.base_bytes if load.base_bytes < _FLOAT32 else 0)
    return [
        base,
        Item(
            process="sampler", name="adapters", size_bytes=2 * served * _FLOAT32,
            formula=f"{load.num_served} adapters in float32, and packed side by side where they are in use",
        ),
        Item(
            process="sampler", name="KV cache", size_bytes=max(one_row, min(wanted, most)),
            formula=f"{load.rows} rows x {load.context} tokens x {shape.kv_bytes_per_token(load.base_bytes)} B, "
            f"{kept // MIB} MiB of ended answers{cap}",
        ),
        Item(
            process="sampler", name="prompt chunk",
            size_bytes=max(chunk * token_bytes, scored * (token_bytes + shape.vocab_size * logit_bytes))
            + 2 * load.rows * shape.vocab_size * _FLOAT32,
            formula=f"{chunk} tokens x (4 hidden + 3 MLP), or {scored} and their logits; two rows of logits a sequence",
        ),
        _runtime(load, "sampler"),
    ]  # fmt: skip


def vllm_items(shape: ModelShape, load: Workload, vllm: Vllm) -> list[Item]:
    """What vLLM cannot do without. Its base is a copy of its own, and its KV cache never grows."""
    slots = vllm.max_loras * shape.adapter_parameters(vllm.max_rank)
    one_row = load.context * shape.kv_bytes_per_token(load.base_bytes)
    cache = f"vllm_kv_cache_gb; a sequence of {load.context} tokens takes {one_row // MIB} MiB"
    least = f"one sequence of {load.context} tokens at least; vLLM takes all that is free"
    return [
        _base(shape, load, "sampler"),
        Item(
            process="sampler", name="adapters", size_bytes=slots * load.base_bytes,
            formula=f"room for {vllm.max_loras} x rank {vllm.max_rank} x {shape.adapted_widths} widths "
            f"x {load.base_bytes} B",
        ),
        Item(
            process="sampler", name="KV cache", size_bytes=max(one_row, vllm.kv_cache_bytes),
            formula=cache if vllm.kv_cache_bytes else least,
        ),
        Item(
            process="sampler", name="runtime", size_bytes=VLLM_RUNTIME_BYTES[load.kind],
            formula="vLLM's processes and their packages" if load.kind == "cpu" else "vLLM, CUDA, its graphs; about",
        ),
    ]  # fmt: skip


def total_bytes(items: Sequence[Item]) -> int:
    """The sum."""
    return sum(item.size_bytes for item in items)


def is_mapped(shape: ModelShape, load: Workload) -> bool:
    """Whether weights stay mapped from their files, so that two processes share them: as stored, on a CPU."""
    return load.kind == "cpu" and {4: "F32", 2: "BF16"}[load.base_bytes] == shape.stored_dtype


def _base(shape: ModelShape, load: Workload, process: Process) -> Item:
    return Item(
        process=process, name="base weights", size_bytes=shape.num_parameters * load.base_bytes,
        formula=f"{shape.num_parameters:,} parameters ({shape.source}) x {load.base_bytes} B",
    )  # fmt: skip


def _activations(shape: ModelShape, load: Workload, num_tokens: int) -> Item:
    heads = shape.num_heads * shape.head_dim
    layer = _KEPT_HIDDEN * shape.hidden + _KEPT_HEADS * heads + _KEPT_MLP * shape.intermediate
    per_layer = layer * load.base_bytes
    if load.base_bytes < _FLOAT32:  # each adapter keeps its input once more, in float32
        per_layer += _adapted_inputs(shape) * _FLOAT32
    if load.checkpointing:
        size = num_tokens * (shape.num_layers * shape.hidden * load.base_bytes + per_layer)
        formula = f"{num_tokens} tokens x ({shape.num_layers} layers' inputs + {per_layer} B of one layer)"
    else:
        size = num_tokens * shape.num_layers * per_layer
        formula = f"{num_tokens} tokens x {shape.num_layers} layers x {per_layer} B"
    return Item(process="engine", name="activations", size_bytes=size, formula=formula)


def _adapted_inputs(shape: ModelShape) -> int:
    """Widths of the inputs of one layer's linear layers: q, k, v, o, gate, up, down."""
    return 5 * shape.hidden + shape.num_heads * shape.head_dim + shape.intermediate


def _logits_bytes(shape: ModelShape, num_tokens: int) -> int:
    rows = min(num_tokens, max(1, LOGITS_CHUNK // shape.vocab_size))
    return _LOGIT_COPIES * rows * shape.vocab_size * _FLOAT32


def _runtime(load: Workload, process: Process) -> Item:
    what = "Python, torch, its libraries" if load.kind == "cpu" else "CUDA context and kernels; differs between drivers"
    return Item(process=process, name="runtime", size_bytes=RUNTIME_BYTES[load.kind], formula=what)
