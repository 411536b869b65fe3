"""``metaclaw train-server --plan``: whether a model fits the devices it was given, and what would.

Owns the devices' memory, the verdict and the proposals; refuses to know formulas (``planner``). Invariant: a proposal
is made of settings of this release and was computed by the same formulas; what this release cannot do is named as that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, product, takewhile
from pathlib import Path
from typing import Any

from metaclaw.config import TrainServerSettings
from metaclaw.training.devices import Assignment, visible_gpus
from metaclaw.training.model_shape import ModelShape
from metaclaw.training.planner import (
    BATCH_TOKENS,
    Item,
    Kind,
    Vllm,
    Workload,
    engine_items,
    is_mapped,
    sampler_items,
    total_bytes,
    vllm_items,
)
from metaclaw.training.samplers.vllm.options import CPU_CACHE_GB, largest_rank

GIB = 1 << 30
_USABLE = 0.92  # of a device: fragments and what others hold
_DEFAULT_CONTEXT = 8192  # where neither the setting nor the model says less
_MIN_CONTEXT = 1024
_QUERY_TIMEOUT_S = 10.0
NOT_IN_THIS_RELEASE = (
    "a quantised base (4 or 8 bits)",
    "one copy of the base for engine and sampler on one GPU (CUDA IPC)",
    "vLLM asleep while it trains, turns going upstream",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """One device: what it has, and what would be on it."""

    name: str
    memory_bytes: int  # 0 is unknown, and enough
    items: list[Item]

    @property
    def needed_bytes(self) -> int:
        return total_bytes(self.items)

    @property
    def fits(self) -> bool:
        return not self.memory_bytes or self.needed_bytes <= self.memory_bytes * _USABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer of ``--plan``."""

    shape: ModelShape
    load: Workload
    devices: list[DevicePlan]
    proposals: list[str]

    @property
    def fits(self) -> bool:
        return all(device.fits for device in self.devices)


def make_plan(
    shape: ModelShape, server: TrainServerSettings, devices: Assignment, *, memory_gb: float | None = None
) -> Plan:
    """The plan for ``server``. ``memory_gb`` is the memory of another machine's GPU (or of its CPU)."""
    kinds = _kinds(server, devices, memory_gb)
    load = _workload(shape, server, kinds)
    planned = _place(shape, load, kinds, devices, memory_gb)
    proposals: list[str] = []
    if not all(device.fits for device in planned):
        proposals = list(_proposals(shape, load, kinds, devices, memory_gb))
    return Plan(shape=shape, load=load, devices=planned, proposals=proposals)


def as_text(plan: Plan) -> str:
    """For a terminal."""
    load = plan.load
    lines = [
        f"{plan.shape.name}: {plan.shape.num_parameters / 1e6:,.0f} M parameters, {plan.shape.num_layers} layers, "
        f"vocabulary {plan.shape.vocab_size:,}",
        f"planned for: {load.num_trained} model in training and {load.num_served} served, rank {load.rank}; "
        f"sequences of {load.context:,} tokens; {load.rows} answers at once",
    ]
    for device in plan.devices:
        size = f"{device.memory_bytes / GIB:.1f} GiB" if device.memory_bytes else "of unknown size"
        lines += ["", f"{device.name}, {size}"]
        lines += [_line(f"{item.process:<8} {item.name}", item.size_bytes, item.formula) for item in device.items]
        verdict = "DOES NOT FIT" if not device.fits else "fits" if device.memory_bytes else "make sure that it is there"
        lines.append(_line("needed", device.needed_bytes, verdict))
    if not plan.fits:
        lines += ["", "What would fit:" if plan.proposals else "Nothing that this release can do makes it fit."]
        lines += [f"  {proposal}" for proposal in plan.proposals]
        lines += ["Not in this release: " + "; ".join(NOT_IN_THIS_RELEASE) + "."]
    return "\n".join(lines)


def _line(name: str, size_bytes: int, text: str) -> str:
    return f"  {name:<22} {size_bytes / GIB:8.2f} GiB   {text}"


def as_json(plan: Plan) -> dict[str, Any]:
    """For programs; sizes in bytes."""
    return {
        "fits": plan.fits,
        "model": asdict(plan.shape),
        "workload": asdict(plan.load),
        "devices": [
            {
                "name": device.name, "memory_bytes": device.memory_bytes, "needed_bytes": device.needed_bytes,
                "fits": device.fits, "items": [asdict(item) for item in device.items],
            }
            for device in plan.devices
        ],
        "proposals": plan.proposals,
        "not_in_this_release": list(NOT_IN_THIS_RELEASE),
    }  # fmt: skip


def _kinds(server: TrainServerSettings, devices: Assignment, memory_gb: float | None) -> tuple[Kind, Kind]:
    if memory_gb is not None:  # another machine: a GPU unless the CPU is asked for
        return (
            "cpu" if server.training_devices == "cpu" else "cuda",
            "cpu" if server.inference_devices == "cpu" else "cuda",
        )
    return ("cuda" if devices.training.indices else "cpu", "cuda" if devices.inference.indices else "cpu")


def _workload(shape: ModelShape, server: TrainServerSettings, kinds: tuple[Kind, Kind]) -> Workload:
    kind = kinds[0]
    dtype_bytes = {"float32": 4, "bfloat16": 2, "auto": 4 if kind == "cpu" else 2}[server.dtype]
    return Workload(
        kind=kind,
        base_bytes=dtype_bytes,
        rank=min(32, server.max_lora_rank),
        context=min(server.max_context or _DEFAULT_CONTEXT, shape.max_context),
        rows=server.max_concurrent,
        kept_mb=server.prefix_cache_mb,
        batch_tokens=server.max_batch_tokens,
        vllm=_vllm(server, kinds[1]) if server.sampler == "vllm" else None,
        checkpointing={"auto": kind == "cuda", "on": True, "off": False}[server.gradient_checkpointing],
    )


def _vllm(server: TrainServerSettings, kind: Kind) -> Vllm:
    wanted_gb = server.vllm_kv_cache_gb or (CPU_CACHE_GB if kind == "cpu" else 0.0)
    return Vllm(
        max_rank=largest_rank(server.max_lora_rank),
        max_loras=server.vllm_max_loras,
        kv_cache_bytes=int(wanted_gb * 1e9),
    )


def _place(
    shape: ModelShape, load: Workload, kinds: tuple[Kind, Kind], devices: Assignment, memory_gb: float | None
) -> list[DevicePlan]:
    trains, samples = kinds
    on_one = trains == samples and (memory_gb is not None or devices.training.indices == devices.inference.indices)
    on_one = on_one and not (load.vllm and samples == "cuda")  # it takes a GPU for itself
    first = _device(trains, devices.training.indices, memory_gb)
    second = first if on_one else _device(samples, devices.inference.indices, memory_gb, is_main=memory_gb is not None)
    sampling = replace(
        load, kind=samples, base_bytes=load.base_bytes if samples == trains else 4, memory_bytes=second[1]
    )
    engine = engine_items(shape, load)
    if load.vllm is None:
        sampler = sampler_items(shape, sampling, maps_the_engines_weights=on_one and is_mapped(shape, load))
    else:
        sampler = vllm_items(shape, sampling, load.vllm)
    if on_one:
        return [DevicePlan(name=first[0], memory_bytes=first[1], items=engine + sampler)]
    return [
        DevicePlan(name=f"engine: {first[0]}", memory_bytes=first[1], items=engine),
        DevicePlan(name=f"sampler: {second[0]}", memory_bytes=second[1], items=sampler),
    ]


def _proposals(
    shape: ModelShape, load: Workload, kinds: tuple[Kind, Kind], devices: Assignment, memory_gb: float | None
) -> Iterator[str]:
    """The first that fits of ever smaller ones, on the same device; then with the sampler elsewhere."""

    def fits(asked: Workload, where: tuple[Kind, Kind] = kinds) -> bool:
        return all(device.fits for device in _place(shape, asked, where, devices, memory_gb))

    smaller = next((asked for asked in _smaller(load) if fits(asked)), None)
    if smaller is not None:
        yield f"{_flags(smaller, load)}   (as much as fits)"
    if kinds == ("cuda", "cuda"):
        ours = replace(load, vllm=None)
        elsewhere = next((asked for asked in (ours, *_smaller(ours)) if fits(asked, ("cuda", "cpu"))), None)
        if elsewhere is not None:
            flags = f"{_flags(elsewhere, load)} --inference-devices cpu".strip()
            flags += " --sampler transformers" * (load.vllm is not None)
            yield f"{flags}   (one base on the GPU; answers are slow)"
    if kinds == ("cuda", "cuda") and load.vllm is None:
        yield "a second GPU for --inference-devices: the base is on each GPU once"


def _smaller(load: Workload) -> Iterator[Workload]:
    """Workloads below ``load``: long sequences are given up last, answers at once first."""
    sizes = takewhile(lambda size: size >= min(_MIN_CONTEXT, load.context), (load.context >> n for n in count()))
    for context in sizes:
        most = min(load.batch_tokens or BATCH_TOKENS[load.kind], context)
        passes = ((load.checkpointing, load.batch_tokens), (True, load.batch_tokens), (True, most))
        for (checkpointing, batch_tokens), rows in product(passes, _halves(load.rows)):
            asked = replace(load, context=context, rows=rows, checkpointing=checkpointing, batch_tokens=batch_tokens)
            if asked != load:
                yield asked


def _halves(number: int) -> Iterator[int]:
    return takewhile(bool, (number >> n for n in count()))


def _flags(asked: Workload, before: Workload) -> str:
    named = {
        "--max-context": (asked.context, before.context),
        "--max-concurrent": (asked.rows, before.rows),
        "--max-batch-tokens": (asked.batch_tokens, before.batch_tokens),
    }
    flags = [f"{name} {now}" for name, (now, was) in named.items() if now != was]
    return " ".join(flags + ["--gradient-checkpointing on"] * (asked.checkpointing and not before.checkpointing))


def _device(kind: Kind, indices: Sequence[int], memory_gb: float | None, *, is_main: bool = False) -> tuple[str, int]:
    if is_main and kind == "cpu":  # the main memory of a machine of which only the GPU was stated
        return "main memory", 0
    if memory_gb is not None:
        return ("a GPU" if kind == "cuda" else "memory"), int(memory_gb * 1e9)
    if kind == "cpu":
        return "memory", _main_memory_bytes()
    return f"cuda:{indices[0]}", _gpu_bytes(visible_gpus()[indices[0]])


def _main_memory_bytes() -> int:
    """The machine's memory, or what a container was given of it."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        sizes.append(int(text))
    return min(sizes)


def _gpu_bytes(name: str) -> int:
    """The memory of a GPU by the driver's tool, which needs no CUDA context; 0 when it does not say."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    query = [tool, f"--id={name}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=False)
        return int(done.stdout.split()[0]) * (1 << 20)
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return 0
