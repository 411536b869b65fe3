"""Gaps between tokens of running answers: alone, beside long prompts, training, swaps, and all of them.

    python -m benchmarks.swap [--model FOLDER | --shape qwen3-1.7b] [--streams 3] [--threads 1] [--quick]

A real training server (API, engine, sampler) on one machine. Streams ask the OpenAI endpoint, one answer after the
other, each with a prompt of its own; a gap is the time between two tokens of one answer as a client sees them. The
phases: the base model; an adapter that serves (``plain``, to whose median gap the ratios are); long prompts, of 700
tokens, one every three seconds; training by a process of its own: forward_backward of 24 short sequences and now and
then one of 1,500 tokens, optim_step, weights saved for the sampler; swaps, every three seconds, each of which loads
weights never served before and sends every answer that begins after it there; and everything at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import torch
from openai import AsyncOpenAI

from benchmarks.random_models import SHAPES, write_model
from tests.fakes.training_server import API_KEY, TrainingServer, training_server

SMOLLM2 = Path("~/.cache/metaclaw/models/SmolLM2-135M-Instruct").expanduser()
ANSWER_TOKENS = 60
EVERY_S = 3.0  # a swap, a long prompt
NUM_PREPARED = 20  # versions to swap to while nothing trains
PHASES = ("base", "plain", "prompts", "training", "swaps", "all")
QUESTIONS = ("Why is the sky blue?", "How is bread made?", "What is a river delta?", "Explain what a compiler does.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape, for a GPU, in place of --model")
    parser.add_argument("--streams", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the engine and of the sampler, each")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--quick", action="store_true", help="phases of 20 seconds")
    parser.add_argument("--trainer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trainer:
        _train(options.trainer, options.model)
        return
    seconds = 20.0 if options.quick else options.seconds
    with tempfile.TemporaryDirectory() as folder:
        if options.shape:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            options.model = write_model(options.shape, Path(folder) / options.shape, device)
        with training_server(
            options.model, Path(folder) / "data", engine_threads=options.threads, sampler_threads=options.threads,
            training_devices="auto", inference_devices="auto", dtype="auto",
        ) as server:  # fmt: skip
            asyncio.run(_measure(server, options, seconds))


async def _measure(server: TrainingServer, options: argparse.Namespace, seconds: float) -> None:
    print(f"{options.model.name}, {options.streams} streams, {options.threads} threads each, {os.cpu_count()} cores")
    print("phase        gaps  median ms   p99 ms  longest ms  p99 ratio  longest ratio  swaps")
    client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0, timeout=300)
    streams = _Streams(client, options.model.name)
    paths: list[str] = []
    usual = 0.0
    async with client:
        await streams.run(options.streams, 3.0)  # warm
        async with _trainer(server, options.model, paths):
            pass
        for phase in options.phases:
            if phase == "plain":
                await streams.swap(paths.pop())
            async with contextlib.AsyncExitStack() as stack:
                streams.gaps_s, num_before = [], streams.num_swaps
                if phase in ("training", "all"):
                    await stack.enter_async_context(_trainer(server, options.model, []))
                if phase in ("swaps", "all"):
                    await stack.enter_async_context(_repeatedly(lambda: streams.swap(paths.pop())))
                if phase in ("prompts", "all"):
                    await stack.enter_async_context(_repeatedly(streams.read_long))
                await streams.run(options.streams, seconds)
            gaps = sorted(streams.gaps_s)
            median, p99, longest = gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.99)], gaps[-1]
            if phase in ("base", "plain"):
                usual = median
            print(
                f"{phase:9} {len(gaps):7} {median * 1e3:10.0f} {p99 * 1e3:8.0f} {longest * 1e3:11.0f} "
                f"{p99 / usual:9.2f}x {longest / usual:13.2f}x {streams.num_swaps - num_before:6}",
                flush=True,
            )


class _Streams:
    """Answers, one after the other, on the weights that serve when they begin."""

    def __init__(self, client: AsyncOpenAI, base: str) -> None:
        self._client = client
        self.serving = base
        self.num_swaps = 0
        self.gaps_s: list[float] = []

    async def run(self, count: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._talk(random.Random(seed), until) for seed in range(count)))

    async def swap(self, path: str) -> None:
        """Load and warm ``path``, then send what begins from now on there."""
        await self._client.chat.completions.create(
            model=path, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
        )
        self.serving = path
        self.num_swaps += 1

    async def read_long(self) -> None:
        """A prompt of 700 tokens, never sent before, and a short answer."""
        words = " ".join(str(number) for number in random.sample(range(10), 10) * 35)
        await self._client.chat.completions.create(
            model=self.serving, messages=[{"role": "user", "content": words}], max_tokens=2
        )

    async def _talk(self, chance: random.Random, until: float) -> None:
        while time.monotonic() < until:
            question = f"{chance.randrange(10**6)}: {chance.choice(QUESTIONS)}"
            answer = await self._client.chat.completions.create(
                model=self.serving, messages=[{"role": "user", "content": question}], stream=True,
                max_tokens=ANSWER_TOKENS, temperature=0.7, seed=chance.randrange(10**6),
                extra_body={"return_token_ids": True},
            )  # fmt: skip
            last = None
            async for chunk in answer:
                if not chunk.choices or not (chunk.choices[0].model_extra or {}).get("token_ids"):
                    continue  # the end, which no token comes with
                now = time.perf_counter()
                if last is not None:
                    self.gaps_s.append(now - last)
                last = now


@contextlib.asynccontextmanager
async def _trainer(server: TrainingServer, model: Path, prepared: list[str]) -> AsyncIterator[None]:
    """Train until the block ends; begins when some versions were saved, which are added to ``prepared``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "benchmarks.swap", "--model", str(model), "--trainer", server.url,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    prepared += [(await process.stdout.readline()).decode().strip() for _ in range(NUM_PREPARED)]
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def _repeatedly(action: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await action()

    repeating = asyncio.create_task(repeat())
    try:
        yield
    finally:
        repeating.cancel()
        (end,) = await asyncio.gather(repeating, return_exceptions=True)
        if not isinstance(end, (asyncio.CancelledError, IndexError)):  # IndexError: every prepared version was served
            raise end


def _train(url: str, base: Path) -> None:
    import numpy as np  # noqa: PLC0415 - the measuring process does without
    import tinker  # noqa: PLC0415

    def datum(length: int) -> tinker.Datum:
        tokens = rng.integers(0, vocab_size, length + 1)
        return tinker.Datum(
            model_input=tinker.ModelInput.from_ints(tokens[:-1].tolist()),
            loss_fn_inputs={
                "target_tokens": tinker.TensorData.from_numpy(tokens[1:]),
                "weights": tinker.TensorData.from_numpy(np.ones(length, np.float32)),
            },
        )

    rng = np.random.default_rng(0)
    vocab_size = json.loads((base / "config.json").read_text())["vocab_size"]
    service = tinker.ServiceClient(base_url=url, api_key=f"tml-{API_KEY}")
    training = service.create_lora_training_client(base_model=base.name, rank=16)
    training = getattr(training, "result", lambda: training)()
    for number in range(NUM_PREPARED):
        print(training.save_weights_for_sampler(f"prepared-{number}").result().path, flush=True)
    for update in itertools.count():
        data = [datum(68) for _ in range(24)] + [datum(1500)] * (update % 4 == 3)
        training.forward_backward(data, "cross_entropy").result()
        training.optim_step(tinker.AdamParams(learning_rate=1e-5)).result()
        training.save_weights_for_sampler(f"trained-{update}").result()


if __name__ == "__main__":
    main()
