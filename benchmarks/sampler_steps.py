"""Processor time of each step of the sampler: with answers alone, beside a long prompt, beside a swap.

    python -m benchmarks.sampler_steps [--model FOLDER] [--streams 3] [--threads 1]

The sampler's loop in this process, without the server around it. Processor time of the thread that decodes, so that
whoever else uses the machine does not count: what a step costs of itself. ``benchmarks/swap.py`` measures what a
client sees.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from metaclaw.training.checkpoints import Manifest, write_checkpoint
from metaclaw.training.commands import LoadAdapter, UnloadAdapter
from tests.training.samplers.loops import LocalLoop, generate

SMOLLM2 = Path("~/.cache/metaclaw/models/SmolLM2-135M-Instruct").expanduser()
RANK = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    parser.add_argument("--streams", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="of each phase")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    loop = LocalLoop(options.model)
    with tempfile.TemporaryDirectory() as folder:
        directory = _adapter(loop, Path(folder) / "adapter")
        loop.ask(LoadAdapter(adapter_id="first", directory=str(directory)))
        for _ in range(options.streams):
            loop.post(generate(random.integers(0, 40_000, 60), "first", max_tokens=2000, temperature=1.0, seed=1))
        _steps(loop, 8)
        plain = _steps(loop, options.steps)
        usual = sorted(plain)[len(plain) // 2]
        print(f"{options.streams} streams, {torch.get_num_threads()} threads; processor ms of a step")
        print("             steps  median   longest  longest/usual")
        _report("alone", plain, usual)
        loop.post(generate(random.integers(0, 40_000, 700), "first", max_tokens=1))
        _report("long prompt", _steps(loop, options.steps), usual)
        loop.post(LoadAdapter(adapter_id="second", directory=str(directory)))
        swap = _steps(loop, options.steps // 3)
        loop.post(generate(random.integers(0, 40_000, 20), "second", max_tokens=10))
        swap += _steps(loop, options.steps // 3)
        loop.post(UnloadAdapter(adapter_id="second"))
        _report("swap", swap + _steps(loop, options.steps // 3), usual)


def _steps(loop: LocalLoop, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began = time.thread_time()
        loop.turn()
        seconds.append(time.thread_time() - began)
    return seconds


def _report(name: str, seconds: list[float], usual: float) -> None:
    longest = max(seconds)
    print(
        f"{name:12} {len(seconds):5} {sorted(seconds)[len(seconds) // 2] * 1e3:7.0f} {longest * 1e3:9.0f} "
        f"{longest / usual:13.2f}x",
        flush=True,
    )


def _adapter(loop: LocalLoop, directory: Path) -> Path:
    """A rank 16 adapter on every linear layer, as the engine would hand it over."""
    layers = {
        name: module
        for name, module in loop.base.model.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name
    }
    tensors = {}
    for name, layer in layers.items():
        num_out, num_in = layer.weight.shape
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(RANK, num_in) * 0.01
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(num_out, RANK) * 0.01
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32}
    manifest = Manifest(
        kind="sampler", base_digest=loop.base.ready.base_digest, rank=RANK, alpha=32, train_mlp=True, train_attn=True,
        train_unembed=False, target_modules=("q_proj",), step=1, files={},
    )  # fmt: skip
    files = {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(tensors)}
    write_checkpoint(directory, files, manifest)
    return directory


if __name__ == "__main__":
    main()
