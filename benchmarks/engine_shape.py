"""How fast the engine trains a model of some shape whose weights are random: no download.

``python -m benchmarks.engine_shape --shape qwen3-8b --device cuda --lengths 1024,4096,16384``

Of each length: tokens/s of a forward_backward of four sequences (a tenth of each is graded), model FLOPs utilisation,
peak memory, and the time from the end of the last backward to adapter files that a sampler can load (step and save).

MFU = useful FLOPs / (time x --peak-tflops). Useful, per token: 4 P for the frozen layers (forward, and the gradient of
their inputs), 6 for each adapter weight, 3 x 4 x layers x width x length / 2 for causal attention and its gradient;
4 x hidden x vocabulary for a graded position (2 for another, whose log-prob is computed too). What is computed again
does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
import torch

from benchmarks.random_models import SHAPES, device_name, random_base
from metaclaw.training.commands import CreateModel, Datum, ForwardBackward, OptimStep, SaveSampler
from metaclaw.training.engine import Engine, EngineOptions

_NUM_SEQUENCES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-8b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--lengths", default="1024,4096,16384")
    parser.add_argument(
        "--peak-tflops", type=float, default=989.0, help="dense, of this dtype; 989: H100, H200 in bf16"
    )
    parser.add_argument("--gradient-checkpointing", choices=["auto", "on", "off"], default="auto")
    arguments = parser.parse_args()
    base = random_base(arguments.shape, torch.device(arguments.device), getattr(torch, arguments.dtype))
    always = {"auto": None, "on": True, "off": False}[arguments.gradient_checkpointing]
    engine = Engine(base, EngineOptions(gradient_checkpointing=always, max_lora_rank=max(64, arguments.rank)))
    engine.execute(CreateModel(model_id="m", rank=arguments.rank))
    print(f"{arguments.shape}, {device_name(base.device)}, {arguments.dtype}, rank {arguments.rank}")
    for length in map(int, arguments.lengths.split(",")):
        _measure(engine, length, arguments.peak_tflops)


def _measure(engine: Engine, length: int, peak_tflops: float) -> None:
    data = _data(engine.base.ready.vocab_size, length)
    device = engine.base.device
    command = ForwardBackward(model_id="m", data=data, loss="cross_entropy")
    _timed(engine, command, device)  # kernels are chosen and memory is reserved at the first run
    engine.model("m").optimizer.drop_gradients()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = _timed(engine, command, device)
    with tempfile.TemporaryDirectory() as folder:
        stepped = _timed(engine, OptimStep(model_id="m", learning_rate=1e-4), device)
        saved = _timed(engine, SaveSampler(model_id="m", directory=f"{folder}/adapter"), device)
    flops = _flops(engine, length) * _NUM_SEQUENCES
    peak = f"peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
    print(
        f"  {_NUM_SEQUENCES} x {length:6} tokens: {_NUM_SEQUENCES * length / seconds:9.0f} tokens/s, "
        f"MFU {flops / seconds / peak_tflops / 1e12:.3f}, step {stepped:.2f} s, save {saved:.2f} s  {peak}"
    )


def _flops(engine: Engine, length: int) -> float:
    """Of one sequence; see the module's docstring."""
    config = engine.base.model.config
    frozen = sum(
        p.numel()
        for name, p in engine.base.model.named_parameters()
        if p.ndim == 2 and "embed" not in name and "lm_head" not in name and "lora" not in name
    )
    adapter = sum(p.numel() for p in engine.model("m").adapter.parameters.values())
    width = config.num_attention_heads * config.head_dim
    attention = 3 * 4 * config.num_hidden_layers * width * length / 2
    graded = length // 10
    head = config.hidden_size * config.vocab_size * (4 * graded + 2 * (length - graded))
    return length * (4 * frozen + 6 * adapter + attention) + head


def _data(vocab_size: int, length: int) -> tuple[Datum, ...]:
    rng = np.random.default_rng(0)
    weights = np.zeros(length, np.float32)
    weights[-(length // 10) :] = 1 / length
    return tuple(
        Datum(
            tokens=rng.integers(0, vocab_size, length, dtype=np.int32),
            inputs={"target_tokens": rng.integers(0, vocab_size, length), "weights": weights},
        )
        for _ in range(_NUM_SEQUENCES)
    )


def _timed(engine: Engine, command: ForwardBackward | OptimStep | SaveSampler, device: torch.device) -> float:
    started = time.perf_counter()
    engine.execute(command)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
