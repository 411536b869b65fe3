"""Both samplers as the training server runs them, one after the other in one run: tokens per second at 8 concurrent.

    python -m benchmarks.vllm MODEL [--tokens 64] [--prompt 64] [--concurrent 8] [--threads 2] [--rounds 3]

Each round asks every sampler on the base model, with one adapter and with two; the adapters have rank 16 on every
linear layer. Greedy requests, and tempered ones that want log-probs at temperature 1 at their end, which costs vLLM a
scoring pass. The median of the rounds is printed: on a shared machine the ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from metaclaw.training.api.background import background
from metaclaw.training.api.workers import Worker, WorkerSpec
from metaclaw.training.commands import Generate, LoadAdapter
from metaclaw.training.samplers.vllm.installation import find_installation
from tests.training.samplers.adapters import publish, write_adapter

RANK = 16
WEIGHTS = {"base": [None], "1 adapter": ["a"], "2 adapters": ["a", "b"]}
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "tempered, both log-probs": {"temperature": 0.7, "full_logprobs": "end"},
}


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(_compare(options, Path(scratch)))


async def _compare(options: argparse.Namespace, scratch: Path) -> None:
    written = {name: write_adapter(options.model, scratch / name, seed=ord(name), rank=RANK) for name in "ab"}
    rates: dict[tuple[str, str, str], list[float]] = {}
    async with (
        _sampler(_transformers(options), written, scratch / "t") as ours,
        _sampler(_vllm(options, scratch), written, scratch / "v") as vllm,
    ):
        for _ in range(options.rounds + 1):  # the first is for warming up
            for kind, settings in KINDS.items():
                for weights, adapters in WEIGHTS.items():
                    for name, worker in (("transformers", ours), ("vllm", vllm)):
                        rate = await _rate(worker, adapters, settings, options)
                        rates.setdefault((kind, weights, name), []).append(rate)
    print(f"{options.model.name}, {options.concurrent} concurrent, prompt {options.prompt}, answer {options.tokens}")
    for kind in KINDS:
        for weights in WEIGHTS:
            ours_rate, vllm_rate = (
                statistics.median(rates[kind, weights, name][1:]) for name in ("transformers", "vllm")
            )
            print(
                f"{kind:26} {weights:11} transformers {ours_rate:6.1f}   vllm {vllm_rate:6.1f}   "
                f"{vllm_rate / ours_rate:.2f}x"
            )


async def _rate(
    worker: Worker, adapters: list[str | None], settings: dict[str, Any], options: argparse.Namespace
) -> float:
    random = np.random.default_rng(0)

    async def one(number: int) -> None:
        prompt = random.integers(10, 4000, options.prompt, dtype=np.int32)
        adapter_id = adapters[number % len(adapters)]
        command = Generate(
            adapter_id=adapter_id, prompt=prompt, max_tokens=options.tokens, stop_tokens=(), seed=number, **settings
        )
        async for _ in worker.stream(command):
            pass

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(options.concurrent)))
    return options.concurrent * options.tokens / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def _sampler(spec: WorkerSpec, written: dict[str, Path], directory: Path) -> AsyncIterator[Worker]:
    async with background() as tasks:
        worker = Worker(spec)
        tasks.start(worker.run())
        digest = (await worker.ready(600)).base_digest
        for name, adapter in written.items():
            await worker.call(LoadAdapter(adapter_id=name, directory=str(publish(adapter, directory / name, digest))))
        yield worker


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "base_model": str(options.model), "device": "cpu", "dtype": "float32", "threads": options.threads,
        "max_concurrent": 32, "max_lora_rank": RANK, "max_context": 2048,
    }  # fmt: skip


def _transformers(options: argparse.Namespace) -> WorkerSpec:
    environment = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return WorkerSpec(name="sampler", start=_common(options), environment=environment)


def _vllm(options: argparse.Namespace, scratch: Path) -> WorkerSpec:
    found = find_installation(None)
    own = {
        "python": str(found.python), "is_cpu": found.is_cpu, "scratch": str(scratch / "vllm"), "max_loras": 4,
        "kv_cache_gb": 1.0, "num_devices": 1, "extra_arguments": (),
    }  # fmt: skip
    return WorkerSpec(name="sampler", role="vllm", start={**_common(options), **own}, environment={})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a transformers model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--concurrent", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
