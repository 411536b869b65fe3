"""How fast the engine is, and how much memory it takes, side by side with plain loops in one process.

``python -m benchmarks.engine MODEL_FOLDER [--quick] [--threads 1]``

Gradients and log-probs of all three are compared first. Times are CPU seconds of the process (threads included), which
a busy machine disturbs least, and wall-clock seconds beside them. Memory is the kernel's peak above the loaded weights,
one child process each, with the allocator's settings of the engine's process. For a model's shape without its weights
see ``benchmarks.engine_shape``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel

from benchmarks import engine_work
from benchmarks.engine_rivals import run_naive, run_padded
from benchmarks.engine_work import Data
from metaclaw.training.base_model import load_base
from metaclaw.training.commands import CreateModel, ForwardBackward, SaveSampler
from metaclaw.training.devices import ENGINE_ALLOCATOR
from metaclaw.training.engine import Engine, EngineOptions

RIVALS = ("naive", "padded", "ours")
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run took."""

    cpu_s: float
    wall_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=12, help="unrelated prompts of (a)")
    parser.add_argument("--quick", action="store_true", help="about a minute: less and shorter data, one round")
    parser.add_argument("--only", choices=["a", "b", "b2", "c"], help="one of the four")
    parser.add_argument("--memory-of", choices=RIVALS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bench = Bench(arguments.model, threads=arguments.threads)
    if arguments.memory_of:
        print(bench.peak_mb(arguments.memory_of, engine_work.single(bench.vocab_size)))
        return
    print(f"{bench.name}, float32, {arguments.threads} thread(s); load {os.getloadavg()[0]:.1f}")
    quick = arguments.quick
    work = {
        "a": ("unrelated prompts", engine_work.unrelated(bench.vocab_size, number=3 if quick else arguments.prompts,
                                                         longest_prompt=500 if quick else 1500)),
        "b": ("sessions of 8 turns", engine_work.sessions(bench.vocab_size, number=1, turns=4 if quick else 8)),
        "b2": ("8 answers to a prompt", engine_work.answers(bench.vocab_size, number=1, prompt=200 if quick else 600,
                                                            answer=20 if quick else 80)),
    }  # fmt: skip
    for key, (title, data) in work.items():
        if arguments.only in (None, key):
            bench.compare(f"({key}) {title}", data, rounds=1 if quick else arguments.rounds)
    if arguments.only in (None, "c"):
        _compare_memory(arguments.model, arguments.threads)


class Bench:
    """One loaded model with one adapter, and the three ways to train it."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        base = load_base(folder, threads=threads)
        self.name, self.vocab_size = folder.name, base.ready.vocab_size
        self._engine = Engine(base, EngineOptions())
        self._engine.execute(CreateModel(model_id="m", rank=16, alpha=32.0, seed=1))
        self._parameters = self._engine.model("m").adapter.parameters
        generator = torch.Generator().manual_seed(0)
        for key, parameter in self._parameters.items():
            if "lora_B" in key:  # zero at first, and then half of the gradients would be zero
                parameter.data.normal_(0, 0.01, generator=generator)
        rival = _with_peft(self._engine, folder)
        self._rival_parameters = {
            name.replace(".default.", "."): value for name, value in rival.named_parameters() if value.requires_grad
        }
        self._runners: dict[str, Callable[[Data], list[np.ndarray]]] = {
            "naive": lambda data: run_naive(rival, data),
            "padded": lambda data: run_padded(rival, data),
            "ours": self._run_ours,
        }

    def compare(self, title: str, data: Data, *, rounds: int) -> None:
        """Check that all agree, then time them in turn."""
        tokens = engine_work.num_tokens(data)
        print(f"\n{title}: {len(data)} datums, {tokens} tokens")
        runs: dict[str, list[Spent]] = {name: [] for name in RIVALS}
        results: dict[str, tuple[list[np.ndarray], np.ndarray]] = {}
        for number in range(rounds):
            for name in RIVALS:
                spent, logprobs = self._timed(name, data)
                runs[name].append(spent)
                if number == 0:
                    results[name] = (logprobs, self._gradient(name))
        for name in RIVALS:
            self._check(name, results[name], results["naive"])
        for name in RIVALS:
            # The best of the rounds: what disturbs only ever adds.
            cpu, wall = min(s.cpu_s for s in runs[name]), min(s.wall_s for s in runs[name])
            faster = min(s.cpu_s for s in runs["naive"]) / cpu
            print(f"  {name:7} {tokens / cpu:7.0f} tokens/CPU-s  {tokens / wall:7.0f} tokens/s   {faster:.2f} x naive")

    def peak_mb(self, name: str, data: Data) -> int:
        """The most memory above the weights, all of which are touched first."""
        for parameter in self._engine.base.model.parameters():
            parameter.detach().sum()
        Path("/proc/self/clear_refs").write_text("5")  # begin a new peak
        before = _status_mb("VmRSS")
        self._timed(name, data)
        return _status_mb("VmHWM") - before

    def _run_ours(self, data: Data) -> list[np.ndarray]:
        return self._engine.execute(ForwardBackward(model_id="m", data=data, loss="cross_entropy"))["logprobs"]

    def _timed(self, name: str, data: Data) -> tuple[Spent, list[np.ndarray]]:
        self._engine.execute(ForwardBackward(model_id="m", data=engine_work.single(self.vocab_size, length=4, answer=2),
                                             loss="cross_entropy", forward_only=True))  # fmt: skip
        for parameter in (*self._parameters.values(), *self._rival_parameters.values()):
            parameter.grad = None
        wall, cpu = time.perf_counter(), time.process_time()
        logprobs = self._runners[name](data)
        return Spent(cpu_s=time.process_time() - cpu, wall_s=time.perf_counter() - wall), logprobs

    def _gradient(self, name: str) -> np.ndarray:
        parameters = self._parameters if name == "ours" else self._rival_parameters
        grads = [parameters[key].grad for key in self._parameters]
        return torch.cat([grad.flatten() for grad in grads if grad is not None]).double().numpy()

    def _check(self, name: str, ours: tuple[list[np.ndarray], np.ndarray], naive: tuple) -> None:
        gap = max(float(np.abs(a - b).max()) for a, b in zip(ours[0], naive[0], strict=True))
        distance = float(np.linalg.norm(ours[1] - naive[1]) / np.linalg.norm(naive[1]))
        if name != "naive":
            print(f"  {name:7} equals naive: gradients to {distance:.1e}, log-probs to {gap:.1e}")
        if distance > _TOLERANCE:
            sys.exit(f"the gradients of {name!r} are not those of the naive loop: {distance:.1e} > {_TOLERANCE}")


def _with_peft(engine: Engine, folder: Path) -> PeftModel:
    """The engine's adapter over a model of its own, as others train it. The base's pages are shared."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(action="ignore", category=FutureWarning):
        exported = Path(scratch) / "adapter"
        engine.execute(SaveSampler(model_id="m", directory=str(exported)))
        return PeftModel.from_pretrained(load_base(folder).model, exported, is_trainable=True)


def _compare_memory(folder: Path, threads: int) -> None:
    print("\n(c) peak memory above the weights, one datum of 1,500 tokens")
    peaks: dict[str, int] = {}
    for name in ("naive", "ours"):
        command = [
            sys.executable,
            "-m",
            "benchmarks.engine",
            str(folder),
            "--memory-of",
            name,
            "--threads",
            str(threads),
        ]
        child = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ENGINE_ALLOCATOR)
        peaks[name] = int(child.stdout.split()[-1])
        print(f"  {name:7} {peaks[name]:6} MB   {peaks['naive'] / peaks[name]:.1f} x less")


def _status_mb(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) // 1024


if __name__ == "__main__":
    main()
