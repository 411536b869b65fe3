"""How fast the transformers sampler answers with a model of some shape whose weights are random: no download.

``python -m benchmarks.sampler_shape --shape qwen3-8b --device cuda``

Wall-clock tokens/s, prompts included, of answers at once over adapters of rank 16 on every linear layer, beside what
transformers' own ``generate`` makes of the same work in one batch that begins and ends together (its best case; with
adapters, one of PEFT's). ``floor`` is the time that one step needs at the least: all weights read once from the
device's memory at --bandwidth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from benchmarks.random_models import SHAPES, device_name, random_base
from benchmarks.sampler import RANK, random_adapter, random_prompts, sampler_rate
from metaclaw.training.samplers.pace import ChunkLimits
from metaclaw.training.samplers.slots import BASE_SLOT, LoraSlots

_CHUNKS = ChunkLimits(least=64, most=2048, idle=4096)  # metaclaw.training.samplers.process: of a GPU


def main() -> None:
    options = _options()
    device = torch.device(options.device)
    with torch.inference_mode():
        base = random_base(options.shape, device, getattr(torch, options.dtype))
        prompts = random_prompts(base, max(options.concurrent), options.prompt)
        slots = LoraSlots(base.model, base.device)
        numbers = [slots.add(random_adapter(base.model, seed)) for seed in range(max(options.adapters))]
        rivals = [random_base(options.shape, device, getattr(torch, options.dtype)).model]
        lora = LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        size = sum(parameter.nbytes for parameter in rivals[0].parameters())
        print(f"{options.shape}, {device_name(device)}, {options.dtype}; prompts of {options.prompt}, answers of "
              f"{options.tokens} tokens; floor {1000 * size / options.bandwidth / 1e12:.1f} ms a step")  # fmt: skip
        print("concurrent  adapters  generate tok/s   tok/s  ratio  step ms (median, 95 %, longest)")
        for adapters in sorted(options.adapters):
            if adapters and len(rivals) == 1:  # PEFT changes the model that it is given: from here on it is the rival
                rivals.append(get_peft_model(rivals[0], lora).eval())
            for concurrent in options.concurrent:
                _warm_up(base, slots, prompts[:concurrent], numbers[:adapters] or [BASE_SLOT])
                rate, steps = sampler_rate(
                    base, slots, prompts[:concurrent], numbers[:adapters] or [BASE_SLOT], options.tokens,
                    chunks=_CHUNKS, clock=time.perf_counter,
                )  # fmt: skip
                theirs = _generate_rate(rivals[-1], prompts[:concurrent], options.tokens)
                ordered = sorted(steps)
                print(
                    f"{concurrent:10} {adapters:9} {theirs:15.1f} {rate:7.1f} {rate / theirs:5.2f}x "
                    f"{statistics.median(steps) * 1000:8.1f} {ordered[int(len(ordered) * 0.95)] * 1000:8.1f} "
                    f"{ordered[-1] * 1000:8.1f}",
                    flush=True,
                )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-8b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--concurrent", type=int, nargs="+", default=(1, 8, 32))
    parser.add_argument("--adapters", type=int, nargs="+", default=(0, 1, 8))
    parser.add_argument("--bandwidth", type=float, default=3.0, help="TB/s; a copy's, on an H100")
    return parser.parse_args()


def _warm_up(base: Any, slots: LoraSlots, prompts: list[np.ndarray], chosen: list[int]) -> None:
    sampler_rate(base, slots, prompts, chosen, 4, chunks=_CHUNKS, clock=time.perf_counter)


def _generate_rate(model: Any, prompts: list[np.ndarray], num_tokens: int) -> float:
    tokens = torch.from_numpy(np.stack(prompts).astype(np.int64)).to(model.device)

    def answer(count: int) -> float:
        began = time.perf_counter()
        model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=count,
            min_new_tokens=count, pad_token_id=0,
        ).tolist()  # fmt: skip
        return time.perf_counter() - began

    answer(4)
    return len(prompts) * num_tokens / answer(num_tokens)


if __name__ == "__main__":
    main()
