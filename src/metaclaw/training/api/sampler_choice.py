"""Which process does the sampling, by train_server.sampler.

Owns the start options of each kind of sampler; refuses to know what they do with them. Invariant: whatever a sampler
lacks is said before a process is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaclaw.config import TrainServerSettings
from metaclaw.training.api.workers import WorkerSpec
from metaclaw.training.devices import WorkerDevices
from metaclaw.training.samplers.vllm.installation import find_installation
from metaclaw.training.samplers.vllm.options import parse_extra_arguments


def sampler_spec(
    server: TrainServerSettings,
    start: Mapping[str, Any],
    devices: WorkerDevices,
    *,
    environment: Mapping[str, str],
    data_dir: Path,
) -> WorkerSpec:
    """How the sampler of ``server`` is started. Raises ``ConfigError`` or ``ProcessError`` if it cannot be."""
    common = {
        **start,
        "device": devices.torch_name,
        "threads": server.sampler_threads,
        "max_concurrent": server.max_concurrent,
    }
    own_environment = {**environment, **devices.environment}
    if server.sampler == "transformers":
        start = {**common, "prefix_cache_mb": server.prefix_cache_mb}
        return WorkerSpec(name="sampler", start=start, environment=own_environment)
    found = find_installation(server.vllm_python)
    vllm = {
        "python": str(found.python),
        "is_cpu": found.is_cpu,
        "scratch": str((data_dir / "vllm").absolute()),
        "max_loras": server.vllm_max_loras,
        "kv_cache_gb": server.vllm_kv_cache_gb,
        "num_devices": max(1, len(devices.indices)),
        "extra_arguments": parse_extra_arguments(server.vllm_args),
    }
    return WorkerSpec(name="sampler", role="vllm", start={**common, **vllm}, environment=own_environment)
