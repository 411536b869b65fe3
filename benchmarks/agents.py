"""Many agents on one training server: what each costs, how long a swap takes among many, who gets how much.

    python -m benchmarks.agents [--model FOLDER] [--agents 100] [--rank 16] [--seconds 60] [--threads 1]

A real training server on one machine, one base model, a LoRA adapter an agent. Each agent is made, trained one step,
saved, and answers from its own version: the time from the request to save until the first token of the new version is
its swap. On the way the resident memory of the server's processes and the bytes on disk are read. Then agents make
one more swap each, drawn by lot; then all of them ask for answers at once, one after the other each, beside one that
asks for twenty at a time; then some of them train at once. Fairness is Jain's index of what the agents got: 1 when all
got the same, 1/n when one got everything (Jain, Chiu and Hawe 1984, equation 1).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import tinker
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.training_server import API_KEY, TrainingServer, training_server

SMOLLM2 = Path("~/.cache/metaclaw/models/SmolLM2-135M-Instruct").expanduser()
MILESTONES = (1, 10, 25, 50, 100, 200)
ANSWER_TOKENS = 16
NUM_SWAPS, NUM_TRAINING, GREEDY = 20, 8, 20
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the two contests")
    parser.add_argument("--threads", type=int, default=1, help="of the engine and of the sampler, each")
    options = parser.parse_args()
    print(f"{options.model.name}, rank {options.rank}, {options.threads} threads each, {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        training_server(
            options.model, Path(folder), engine_threads=options.threads, sampler_threads=options.threads
        ) as server,
    ):
        asyncio.run(_Measurement(server, options).run())


@dataclass(slots=True)
class _Agent:
    training: tinker.TrainingClient
    version: int = 0
    path: str = ""
    answered: int = 0  # tokens, in the contest


@dataclass
class _Measurement:
    server: TrainingServer
    options: argparse.Namespace
    agents: list[_Agent] = field(default_factory=list)

    async def run(self) -> None:
        service = tinker.ServiceClient(base_url=self.server.url, api_key=f"tml-{API_KEY}")
        base_url, name = f"{self.server.url}/v1", self.options.model.name
        async with AsyncOpenAI(base_url=base_url, api_key=API_KEY, max_retries=0, timeout=600) as client:
            self.client = client
            await self._first_token(name)  # warm
            print("agents  made ms  swap ms   engine MiB  sampler MiB   api MiB   disk MiB")
            await self._say(0, [], [])
            await self._grow(service)
            await self._swap_by_lot()
            await self._contest()
            await self._train_at_once()

    async def _grow(self, service: tinker.ServiceClient) -> None:
        made, swaps = list[float](), list[float]()
        for count in range(1, self.options.agents + 1):
            begun = time.perf_counter()
            training = await service.create_lora_training_client_async(
                base_model=self.options.model.name, rank=self.options.rank, seed=count
            )
            made.append(time.perf_counter() - begun)
            self.agents.append(_Agent(training))
            swaps.append(await self._swap(self.agents[-1]))
            if count in MILESTONES or count == self.options.agents:
                await self._say(count, made, swaps)
                made, swaps = [], []

    async def _say(self, count: int, made: Sequence[float], swaps: Sequence[float]) -> None:
        resident = await self._resident()
        disk = sum(file.stat().st_size for file in self.server.data_dir.rglob("*") if file.is_file())
        times = "".join(f"{statistics.median(each) * 1e3:9.0f}" if each else f"{'-':>9}" for each in (made, swaps))
        print(f"{count:6}{times}{resident['engine'] / MIB:13.0f}{resident['sampler'] / MIB:13.0f}"
              f"{resident['api'] / MIB:10.0f}{disk / MIB:11.0f}", flush=True)  # fmt: skip

    async def _resident(self) -> dict[str, float]:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {API_KEY}"}, timeout=60) as http:
            text = (await http.get(f"{self.server.url}/metrics")).raise_for_status().text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        return {each.labels["process"]: each.value for each in families["metaclaw_resident_bytes"].samples}

    async def _swap(self, agent: _Agent) -> float:
        """Train a step, then save and serve it; seconds from the request to save to the first token of the version."""
        await self._step(agent)
        begun = time.perf_counter()
        agent.version += 1
        saved = await agent.training.save_weights_for_sampler_async(f"v{agent.version}")
        agent.path = (await saved.result_async()).path
        await self._first_token(agent.path)
        return time.perf_counter() - begun

    async def _step(self, agent: _Agent) -> None:
        passed = await agent.training.forward_backward_async([_datum()], "cross_entropy")
        stepped = await agent.training.optim_step_async(tinker.AdamParams(learning_rate=1e-5))
        await passed.result_async()
        await stepped.result_async()

    async def _first_token(self, model: str) -> None:
        await self.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
        )

    async def _swap_by_lot(self) -> None:
        drawn = random.Random(0).choices(self.agents, k=NUM_SWAPS)
        seconds = sorted([await self._swap(agent) for agent in drawn])
        print(f"{len(drawn)} swaps among {len(self.agents)}: median {statistics.median(seconds) * 1e3:.0f} ms, "
              f"longest {seconds[-1] * 1e3:.0f} ms")  # fmt: skip

    async def _contest(self) -> None:
        """Everybody asks, one answer after the other; the first asks for many at a time."""
        until = time.monotonic() + self.options.seconds
        askers = [agent for agent in self.agents for _ in range(GREEDY if agent is self.agents[0] else 1)]
        waits = list[float]()
        await asyncio.gather(*(self._ask(agent, until, waits) for agent in askers))
        modest = [agent.answered for agent in self.agents[1:]] or [0]
        waits.sort()
        print(f"{len(askers)} answers at a time, {self.options.seconds:.0f} s: {sum(modest) + self.agents[0].answered} "
              f"tokens; Jain's index of {len(modest)} agents with one at a time {_jain(modest):.3f} "
              f"(fewest {min(modest)}, most {max(modest)}); the one with {GREEDY} got {self.agents[0].answered}; "
              f"an answer took median {statistics.median(waits):.1f} s, longest {waits[-1]:.1f} s")  # fmt: skip

    async def _ask(self, agent: _Agent, until: float, waits: list[float]) -> None:
        while time.monotonic() < until:
            begun = time.perf_counter()
            answer = await self.client.chat.completions.create(
                model=agent.path, messages=[{"role": "user", "content": "Tell me about rivers."}],
                max_tokens=ANSWER_TOKENS, extra_body={"ignore_eos": True},
            )  # fmt: skip
            waits.append(time.perf_counter() - begun)
            agent.answered += answer.usage.completion_tokens if answer.usage else 0

    async def _train_at_once(self) -> None:
        until = time.monotonic() + self.options.seconds
        drawn = self.agents[-NUM_TRAINING:]
        steps = await asyncio.gather(*(self._steps(agent, until) for agent in drawn))
        print(f"{len(drawn)} agents training at once, {self.options.seconds:.0f} s: {sum(steps)} steps, "
              f"Jain's index {_jain(steps):.3f} (fewest {min(steps)}, most {max(steps)})")  # fmt: skip

    async def _steps(self, agent: _Agent, until: float) -> int:
        steps = 0
        while time.monotonic() < until:
            await self._step(agent)
            steps += 1
        return steps


def _datum(length: int = 64) -> tinker.Datum:
    tokens = np.random.default_rng(0).integers(0, 40_000, length + 1)
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1].tolist()),
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_numpy(tokens[1:]),
            "weights": tinker.TensorData.from_numpy(np.ones(length, np.float32)),
        },
    )


def _jain(got: Sequence[float]) -> float:
    return sum(got) ** 2 / max(1e-9, len(got) * sum(each**2 for each in got))


if __name__ == "__main__":
    main()
