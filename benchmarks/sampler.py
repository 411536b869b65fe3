"""Tokens per processor second of the transformers sampler against ``generate``, one request after another.

    python -m benchmarks.sampler [--model FOLDER] [--tokens 32] [--prompt 64]

Both in this process, on the same weights, in turns; ratios are what counts on a shared machine. ``generate`` runs
the same work: where the sampler serves adapters, with one of PEFT's; ``bare`` is the base model alone, its best case
whatever the sampler serves. Processor time of all threads: who else uses the machine counts less. The sampler runs 1,
8 and 24 requests over 0, 1 and 8 adapters of rank 16 on every linear layer. The longest step is the longest in which
some request got a token; here that is the one that reads all prompts, before which no answer runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from metaclaw.training.base_model import LoadedBase, load_base
from metaclaw.training.commands import Generate
from metaclaw.training.samplers.adapter_files import LoraPair
from metaclaw.training.samplers.decoder import Decoder
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.pace import ChunkLimits
from metaclaw.training.samplers.requests import Limits, RequestReader
from metaclaw.training.samplers.rows import RowLimits
from metaclaw.training.samplers.slots import BASE_SLOT, LoraSlots
from tests.fakes.tiny_model import make_tiny_model

CONCURRENCY = (1, 8, 24)
ADAPTERS = (0, 1, 8)
RANK = 16
CHUNKS = ChunkLimits(least=8, most=256, idle=512)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        base = load_base(
            options.model or make_tiny_model(Path(scratch)), device=options.device, threads=options.threads
        )
        prompts = random_prompts(base, max(options.concurrent), options.prompt)
        where = f"{base.ready.device} {base.ready.dtype}, {torch.get_num_threads()} threads"
        print(f"{options.model or 'tiny Qwen3'}, {where}")
        print(
            f"prompt {options.prompt}, answer {options.tokens} tokens; tokens per processor second, prefill included\n"
        )
        print("concurrent  adapters  one by one   tok/s  ratio  ratio to bare  step ms (median, longest)")
        bare, adapted, base = (base, *(
            load_base(options.model or Path(scratch), device=options.device, threads=options.threads) for _ in "ab"
        ))  # fmt: skip
        lora = LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        adapted = get_peft_model(adapted.model, lora).eval()
        slots = LoraSlots(base.model, base.device)
        numbers = [slots.add(random_adapter(base.model, seed)) for seed in range(max(options.adapters))]
        for concurrent in options.concurrent:
            for adapters in options.adapters:
                chosen = numbers[:adapters] or [BASE_SLOT]
                # Each time: the machine is shared.
                alone = _generate_rate(bare.model, prompts[:2], options.tokens)
                reference = _generate_rate(adapted, prompts[:2], options.tokens) if adapters else alone
                rate, steps = sampler_rate(
                    base, slots, prompts[:concurrent], chosen, options.tokens, chunks=CHUNKS, clock=time.process_time
                )
                print(
                    f"{concurrent:10} {adapters:9} {reference:11.1f} {rate:7.1f} {rate / reference:5.1f}x "
                    f"{rate / alone:13.1f}x "
                    f"{statistics.median(steps) * 1000:8.1f} {max(steps) * 1000:8.1f}"
                )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, help="folder of a transformers model; default: a tiny one made on the spot"
    )
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--concurrent", type=int, nargs="+", default=CONCURRENCY)
    parser.add_argument("--adapters", type=int, nargs="+", default=ADAPTERS)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def random_prompts(base: LoadedBase, count: int, length: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, base.ready.vocab_size, length, dtype=np.int32) for _ in range(count)]


def _generate_rate(model: Any, prompts: list[np.ndarray], num_tokens: int) -> float:
    def answer(prompt: np.ndarray) -> None:
        tokens = torch.from_numpy(prompt.astype(np.int64))[None].to(model.device)
        model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=num_tokens,
            min_new_tokens=num_tokens, pad_token_id=0,
        )  # fmt: skip

    began = time.process_time()
    for prompt in prompts:
        answer(prompt)
    return len(prompts) * num_tokens / (time.process_time() - began)


def sampler_rate(
    base: LoadedBase, slots: LoraSlots, prompts: list[np.ndarray], chosen: list[int], num_tokens: int, *,
    chunks: ChunkLimits, clock: Callable[[], float],
) -> tuple[float, list[float]]:  # fmt: skip
    """Tokens per second of ``clock``, first prefill to last token, and the seconds of each step that gave some."""
    limits = Limits(vocab_size=base.ready.vocab_size, max_context=base.ready.max_context, end_tokens=())
    reader = RequestReader(limits, decode=str, entropy=lambda: 0)
    rows = RowLimits(max_rows=len(prompts), max_places=10**9, kept_places=0, max_context=base.ready.max_context)
    decoder = Decoder(ForwardPass(base.model, slots, base.device), rows, chunks, on_end=lambda _: None)
    for number, prompt in enumerate(prompts):
        command = Generate(adapter_id=None, prompt=prompt, max_tokens=num_tokens, stop_tokens=(), seed=number)
        decoder.add(reader.read(number, command, chosen[number % len(chosen)]))
    steps: list[float] = []
    began = clock()
    while decoder.is_busy:
        before = clock()
        decoder.step()
        num_tokens_sent = sum(frame.get("event") == "tokens" for frame in decoder.collect())
        if num_tokens_sent:
            steps.append(clock() - before)
    return len(prompts) * num_tokens / (clock() - began), steps


def random_adapter(model: nn.Module, seed: int) -> dict[str, LoraPair]:
    generator = torch.Generator().manual_seed(seed)

    def pair(layer: nn.Linear) -> LoraPair:
        num_out, num_in = layer.weight.shape
        return LoraPair(
            down=torch.randn(RANK, num_in, generator=generator) * 0.01,
            up=torch.randn(num_out, RANK, generator=generator) * 0.01,
        )

    layers = ((name, getattr(module, "base", module)) for name, module in model.named_modules())
    return {
        name: pair(layer)
        for name, layer in layers
        if isinstance(layer, nn.Linear) and not name.endswith(".base") and "lm_head" not in name
    }


if __name__ == "__main__":
    main()
