"""How long a forward_backward, a step and a save take, and the peak memory, by size of the micro-batches.

``python benchmarks/engine.py MODEL_FOLDER [--batch-tokens 256] [--gradient-checkpointing]`` trains two models in turn
on 24 sequences of 40 prompt and 28 answer tokens, as the demonstration does. Run one size a process: the peak is the
process's.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from metaclaw.training.base_model import load_base
from metaclaw.training.commands import Command, CreateModel, Datum, ForwardBackward, OptimStep, SaveState
from metaclaw.training.engine import Engine, EngineOptions

_PROMPT, _ANSWER, _SEQUENCES = 40, 28, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch-tokens", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    arguments = parser.parse_args()
    base = load_base(arguments.model, threads=arguments.threads)
    options = EngineOptions(
        max_batch_tokens=arguments.batch_tokens, gradient_checkpointing=arguments.gradient_checkpointing
    )
    engine = Engine(base, options)
    data = _data(base.ready.vocab_size)
    print(f"{base.ready.architecture} on {base.ready.device}: loaded, {_peak_mb()} MB")
    with tempfile.TemporaryDirectory() as folder:
        for model_id in ("a", "b"):
            engine.execute(CreateModel(model_id=model_id, rank=16))
        for turn, model_id in enumerate("abab"):
            passed = _timed(engine, ForwardBackward(model_id=model_id, data=data, loss="ppo"))
            stepped = _timed(engine, OptimStep(model_id=model_id))
            saved = _timed(engine, SaveState(model_id=model_id, directory=f"{folder}/{turn}"))
            tokens = _SEQUENCES * (_PROMPT + _ANSWER)
            print(f"{tokens} tokens in {passed:.2f} s, step {stepped:.3f} s, save {saved:.3f} s, peak {_peak_mb()} MB")


def _data(vocab_size: int) -> tuple[Datum, ...]:
    rng = np.random.default_rng(0)
    length = _PROMPT + _ANSWER
    advantages = np.concatenate([np.zeros(_PROMPT, np.float32), np.ones(_ANSWER, np.float32)])
    return tuple(
        Datum(
            tokens=rng.integers(0, vocab_size, length, dtype=np.int32),
            inputs={
                "target_tokens": rng.integers(0, vocab_size, length),
                "advantages": advantages,
                "logprobs": np.full(length, -np.log(vocab_size), np.float32),
            },
        )
        for _ in range(_SEQUENCES)
    )


def _timed(engine: Engine, command: Command) -> float:
    started = time.perf_counter()
    engine.execute(command)
    return time.perf_counter() - started


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
