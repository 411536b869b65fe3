"""The user comes back while the policy is trained: how soon the machine is theirs, and what they notice of an update.

    python -m benchmarks.windows [--returns 5] [--seconds 30] [--streams 3]

The three programs as a user runs them, in mode auto, with SmolLM2. First: an update begins because nobody asked
anything for ten seconds; a few seconds into its pass a request comes; how long after its first byte was sent the
engine's processor use is over (less than a tenth of a core for a quarter of a second), and what the journal says of the
update. Then: gaps between the tokens of some streams through the gateway, for a while without an update, and during
one that `metaclaw train-step` asked for, to its end and the swap. Exit code 1 when a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import psutil
from openai import AsyncOpenAI

from demo.conversation import Reply, ask, ask_all
from demo.job import SETTINGS
from demo.processes import ROOT, Programs
from demo.prompts import LEARNING
from metaclaw.journal.learning_status import AgentStatus, read_status

BATCH = 32
ANSWER_TOKENS = 60
IDLE_MINUTES = 10 / 60
WINDOWS = {
    "mode": "auto",
    "scheduler.idle_source": "requests",
    "scheduler.idle_threshold_minutes": str(IDLE_MINUTES),
    "scheduler.resume_after_minutes": "0.05",
    "scheduler.sleep_start": "00:00",
    "scheduler.sleep_end": "00:00",
}
_LOOK_S = 0.05
_IDLE_S, _IDLE_SHARE = 0.25, 0.1
_GIVE_UP_S = 180.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--returns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="of streams without an update")
    parser.add_argument("--streams", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        num_failed = asyncio.run(_measure(Path(folder) / "home", options))
    print(f"{num_failed} requests failed")
    sys.exit(bool(num_failed))


async def _measure(home: Path, options: argparse.Namespace) -> int:
    settings = {**SETTINGS, **WINDOWS, "rl.update.min_exchanges": str(BATCH), "rl.update.max_exchanges": str(BATCH)}
    async with Programs(home, settings) as programs:
        client = AsyncOpenAI(
            base_url=programs.gateway_url, api_key=programs.gateway_token(), max_retries=0, timeout=600
        )
        async with client:
            prompts = random.Random(0).choices(LEARNING, k=BATCH)
            replies = await ask_all(client, prompts, kind="main", num_concurrent=8)
            engine = programs.processes()["engine"]
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            for number in range(options.returns):
                replies.append(await _return(client, home, engine, number))
            without = await _streams(client, options.streams, asyncio.sleep(options.seconds))
            during = await _streams(client, options.streams, _train_step(home))
            print("streams           gaps  median ms   p99 ms  longest ms")
            _print_gaps("no update", without)
            _print_gaps("an update, swap", during)
            return sum(reply.error is not None for reply in (*replies, *without, *during))


async def _return(client: AsyncOpenAI, home: Path, engine: psutil.Process, number: int) -> Reply:
    """Wait for an update, come back in the middle of it, and say what came of that."""
    before = _last_update(home)
    await _until(lambda: _last_update(home) != before and _status(home).last_update.state == "running")  # type: ignore[union-attr]
    await _until(lambda: _share(engine) > 0.5)
    await asyncio.sleep(1.0 + number)  # at another moment of the pass each time
    was_busy = _share(engine)
    came_back = time.monotonic()
    asking = asyncio.create_task(ask(client, LEARNING[number], max_tokens=ANSWER_TOKENS))
    stopped, quiet = came_back, 0.0
    while quiet < _IDLE_S:
        began = time.monotonic()
        share = await asyncio.to_thread(_share, engine)
        ended = time.monotonic()
        quiet = quiet + ended - began if share < _IDLE_SHARE else 0.0
        stopped = stopped if share < _IDLE_SHARE else ended
    reply = await asking
    await _until(lambda: _status(home).last_update.state != "running")  # type: ignore[union-attr]
    update = _status(home).last_update
    assert update is not None
    first = reply.chunk_times[1] - reply.chunk_times[0] if len(reply.chunk_times) > 1 else 0.0
    print(
        f"return {number + 1}: engine at {was_busy:.0%} of a core, over {stopped - came_back:.2f} s after the request; "
        f"update {update.id} {update.state} ({update.reason}), {_status(home).pending} turns wait; "
        f"first gap of the answer {first * 1e3:.0f} ms",
        flush=True,
    )
    return reply


async def _streams(client: AsyncOpenAI, count: int, work) -> list[Reply]:
    """Keep so many answers streaming while ``work`` is done."""
    over, replies = asyncio.Event(), list[Reply]()

    async def talk(seed: int) -> None:
        chance = random.Random(seed)
        while not over.is_set():
            # Main turns: as long as they are asked, no window opens by itself.
            replies.append(await ask(client, chance.choice(LEARNING), max_tokens=ANSWER_TOKENS))

    async def until() -> None:
        await work
        over.set()

    await asyncio.gather(until(), *(talk(seed) for seed in range(count)))
    return replies


async def _train_step(home: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "metaclaw.cli.main", "train-step", "--json", "--timeout", "300",
        env={**os.environ, "METACLAW_HOME": str(home)}, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    print("train-step:", json.dumps(json.loads(printed)))


def _print_gaps(name: str, replies: list[Reply]) -> None:
    gaps = sorted(itertools.chain.from_iterable(reply.gaps_s for reply in replies))
    median, p99 = gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.99)]
    print(f"{name:<16} {len(gaps):5} {median * 1e3:10.0f} {p99 * 1e3:8.0f} {gaps[-1] * 1e3:11.0f}", flush=True)


def _status(home: Path) -> AgentStatus:
    return next(agent for agent in read_status(home / "learning.db") if agent.agent == "main")


def _last_update(home: Path) -> int:
    found = [agent.last_update.id for agent in read_status(home / "learning.db") if agent.last_update is not None]
    return max(found, default=0)


def _share(process: psutil.Process) -> float:
    """How much of a core ``process`` takes, over a moment."""
    began, used = time.monotonic(), sum(process.cpu_times()[:2])
    time.sleep(_LOOK_S)
    return (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - began)


async def _until(is_so) -> None:
    async with asyncio.timeout(_GIVE_UP_S):
        while not await asyncio.to_thread(is_so):  # noqa: ASYNC110 - asks other processes
            await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    main()
