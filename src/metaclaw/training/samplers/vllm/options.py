"""How vLLM is started: its arguments and its environment.

Owns what we decide about vLLM and why; refuses to know processes. Invariant: nothing secret is an argument (`ps` shows
those), and the environment is a new mapping for the child alone.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.errors import ConfigError

BASE_NAME = "base"
CPU_CACHE_GB = 2.0  # where nothing is said
# vLLM takes no other maximal ranks; an adapter may have any rank up to it.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# What we rely on. An extra argument that changes it would be met by wrong answers, not by an error.
_OURS = frozenset(
    {
        "--model", "--served-model-name", "--host", "--port", "--uds", "--api-key", "--enable-lora", "--no-enable-lora",
        "--logprobs-mode", "--max-logprobs", "--enable-scale-out", "--generation-config", "--max-model-len",
        "--trust-remote-code", "--enable-log-requests", "--enable-log-outputs", "--enable-sleep-mode", "--dtype",
        "--max-loras", "--max-cpu-loras", "--max-lora-rank", "--max-num-seqs", "--seed", "-tp", "-dp",
        "--tensor-parallel-size", "--data-parallel-size", "--lora-target-modules",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """What one vLLM serves, and with how much."""

    python: Path
    base_model: Path
    dtype: str  # float32 or bfloat16
    is_cpu: bool
    max_context: int
    max_concurrent: int
    max_lora_rank: int
    max_loras: int  # adapters in one batch
    max_held_loras: int  # adapters in memory
    threads: int  # of the CPU's build; 0 is all
    kv_cache_gb: float  # 0 leaves it to vLLM on a GPU, and is 2 on a CPU
    num_devices: int  # GPUs that one copy of the model is spread over
    seed: int  # of requests that bring none
    lora_layers: tuple[str, ...]  # where adapters may be; empty is everywhere
    extra_arguments: tuple[str, ...]


def parse_extra_arguments(text: str) -> tuple[str, ...]:
    """The words of train_server.vllm_args. Raises ``ConfigError`` for one that we set ourselves."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"train_server.vllm_args cannot be read as a command line: {error}") from error
    for word in words:
        name = word.split("=")[0].replace("_", "-")
        if name in _OURS:
            raise ConfigError(f"train_server.vllm_args: {name} is set by the training server and cannot be given")
    return words


def arguments(options: VllmOptions, *, port: int) -> list[str]:
    """The command line."""
    given = [
        str(options.python), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(options.base_model), "--served-model-name", BASE_NAME,
        "--host", "127.0.0.1", "--port", str(port),
        "--dtype", options.dtype,
        # One more than is served: to score a full context vLLM must be allowed to sample a token after it.
        "--max-model-len", str(options.max_context + 1),
        "--max-num-seqs", str(options.max_concurrent),
        "--enable-lora", "--max-lora-rank", str(largest_rank(options.max_lora_rank)),
        "--max-loras", str(options.max_loras), "--max-cpu-loras", str(max(options.max_held_loras, options.max_loras)),
        # Log-probs after temperature and truncation, which nothing else could tell us; without either they are the
        # model's own, and where they are not, one scoring request gives those.
        "--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1",
        "--generation-config", "vllm",  # the model folder's own sampling defaults are not ours
        "--enable-scale-out",  # /inference/v1/generate: tokens in, tokens out
        "--seed", str(options.seed),
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if options.lora_layers:
        # All but the output embedding: with an adapter there, vLLM 0.32 computes prompt log-probs for the wrong rows
        # and dies of it as soon as two requests run together (CPU).
        given += ["--lora-target-modules", *options.lora_layers]
    if options.is_cpu:
        given.append("--enforce-eager")  # compiling takes longer than it saves there
    else:
        given += ["--tensor-parallel-size", str(options.num_devices)]
        if options.kv_cache_gb:
            given += ["--kv-cache-memory-bytes", str(int(options.kv_cache_gb * 1e9))]
    return [*given, *options.extra_arguments]


def largest_rank(rank: int) -> int:
    """The rank that vLLM makes room for when adapters have up to ``rank``."""
    return next((known for known in _RANKS if known >= rank), _RANKS[-1])


def environment(options: VllmOptions, *, api_key: str, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the child, on top of ours."""
    own: dict[str, Any] = {
        "VLLM_API_KEY": api_key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # for the one token more
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{options.python.parent}{os.pathsep}{base.get('PATH', os.defpath)}",  # compilers of its venv
    }
    if options.is_cpu:
        own["VLLM_CPU_KVCACHE_SPACE"] = f"{max(1, round(options.kv_cache_gb or CPU_CACHE_GB))}"
        own["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # 'auto' leaves half of the logical cores idle
        own["OMP_NUM_THREADS"] = str(options.threads or num_cores())
        own["OMP_WAIT_POLICY"] = "PASSIVE"
    kept = {name: value for name, value in base.items() if not name.startswith(("VLLM_", "PYTHON", "METACLAW_"))}
    return {**kept, **own}


def num_cores() -> int:
    """The logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
