"""Which devices the engine and the sampler get, decided before either process exists.

Owns the assignment and the environment that enforces it; refuses to know torch: asking CUDA here would open a context
on every GPU. Invariant: a worker sees its own devices and no others from its first instruction on; our own environment
is read and never changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.config import TrainServerSettings
from metaclaw.errors import ConfigError

TRANSFORMERS = "transformers"  # the sampler that shares
VISIBLE = "CUDA_VISIBLE_DEVICES"
_LIST_TIMEOUT_S = 10.0


# Huge pages for the large tensors. Where activations are computed again the heap is full of holes: SmolLM2 took
# 1.6 GB for 1,500 tokens, and takes 0.7 GB so. Nothing changes on a GPU.
ENGINE_ALLOCATOR: Mapping[str, str] = {"THP_MEM_ALLOC_ENABLE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDevices:
    """What one worker gets: the name that its torch uses, and what its environment adds to ours."""

    torch_name: str  # auto, cpu or cuda:0: the first that it can see
    indices: tuple[int, ...] = ()  # of the GPUs, as this process counts them
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The devices of both workers."""

    training: WorkerDevices
    inference: WorkerDevices


def assign_devices(
    server: TrainServerSettings, *, sampler: str = TRANSFORMERS, visible: Sequence[str] | None = None
) -> Assignment:
    """The devices that ``server`` asks for. ``visible`` are the GPUs as CUDA names them; found here by default.

    ``auto`` is the first GPU for training; for inference the second where there is one, else the same, and the CPU on
    a machine without. The transformers sampler shares the engine's GPU; any other takes GPUs for itself. Raises
    ``ConfigError``.
    """
    names = visible_gpus() if visible is None else tuple(visible)
    training = _one("training_devices", server.training_devices, names, auto=(0,))
    spare = 1 if len(names) > 1 and 1 not in training.indices else 0
    inference = _one("inference_devices", server.inference_devices, names, auto=(spare,))
    if len(inference.indices) > 1 and sampler == TRANSFORMERS:
        raise ConfigError(
            f"train_server.inference_devices: {server.inference_devices!r} names several, and the sampler "
            f"{sampler!r} runs on one; name one, or use the sampler 'vllm'"
        )
    both = set(training.indices) & set(inference.indices)
    if both and sampler != TRANSFORMERS:
        raise ConfigError(
            f"train_server.inference_devices: cuda:{min(both)} is a training device as well, and the sampler "
            f"{sampler!r} takes a GPU for itself; name another one, or use the sampler {TRANSFORMERS!r}, which shares"
        )
    return Assignment(training=training, inference=inference)


def visible_gpus(env: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs that CUDA would show this process, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if VISIBLE in env:
        # CUDA itself stops at the first -1.
        names = [name.strip() for name in env[VISIBLE].split(",")]
        return tuple(names[: names.index("-1")] if "-1" in names else filter(None, names))
    nodes = [path for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return tuple(map(str, range(len(nodes) or _listed())))


def _listed() -> int:
    """How many GPUs the driver's own tool lists: under WSL there are no device nodes."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=_LIST_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _one(setting: str, asked: str, names: Sequence[str], *, auto: tuple[int, ...]) -> WorkerDevices:
    if asked == "cpu":
        return WorkerDevices(torch_name="cpu", environment={VISIBLE: ""})
    if asked == "auto" and not names:
        return WorkerDevices(torch_name="auto")
    indices = auto if asked == "auto" else tuple(int(name.removeprefix("cuda:")) for name in asked.split(","))
    missing = [index for index in indices if index >= len(names)]
    if missing:
        here = f"this process sees {len(names)} GPU(s): {', '.join(f'cuda:{n}' for n in range(len(names)))}"
        raise ConfigError(
            f"train_server.{setting}: there is no cuda:{missing[0]}; {here if names else 'this process sees no GPU'}. "
            f"Use 'auto' or 'cpu'{'' if VISIBLE not in os.environ else f', or change {VISIBLE}'}"
        )
    # Whoever asked for no GPU by name also runs where torch was built without CUDA.
    return WorkerDevices(
        torch_name="auto" if asked == "auto" else "cuda:0",
        indices=indices,
        environment={VISIBLE: ",".join(names[index] for index in indices)},
    )
