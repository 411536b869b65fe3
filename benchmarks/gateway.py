"""What the gateway adds to a request: direct, through a bare pass-through, two ways, a skeleton, and the gateway.

    python -m benchmarks.gateway [--requests 2000] [--concurrency 1 8 32 128] [--skills 2000] [--memories 50000]
        [--resident 20000] [--stub-port 9000 --reference http://127.0.0.1:30001/v1]

All programs are processes of their own on loopback before one stub model, whose streams send a token each millisecond.
Rounds are interleaved, so a busy machine slows all of them: quote the ratios. CPU is that of the measured program, with
what it does after its last answer. A round of some tenths of a second is over before the gateway writes its journal:
``--requests 10000`` shows what a client sees that asks for longer without a pause.
Three kinds of requests: plain ones to a model that answers at once, plain ones to one that thinks for 5 to 20 ms (which
are not counted), and streams. ``--resident N`` sends N more through the gateway without recall, and reports its
resident memory on the way. ``--reference`` measures another gateway that runs already and asks the same stub
(``--stub-port``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import uvloop

from benchmarks.gateway_leaving import measure_leaving
from benchmarks.gateway_programs import (
    BARE,
    DIRECT,
    PLAIN,
    POSTED,
    SKELETON,
    TOPICS,
    Program,
    free_port,
    reference,
    running,
    sentences,
)
from benchmarks.http_load import Load, load

ROUNDS = 5
_LOOK_S, _IDLE_CPU_S = 0.25, 0.005
KINDS = ("plain", "thinking", "stream")
_SYSTEM = "You are a careful assistant. " * 30
_THINK = re.compile(rb"\[\[think ([\d.]+)\]\]")
_COLUMNS = ("p50", "p95", "p99", "first")  # what is added to the direct way, ms


def main() -> None:
    arguments = _arguments()
    uvloop.install()
    stub = arguments.stub_port or free_port()
    others = [reference(arguments.reference, arguments.reference_token)] if arguments.reference else []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), stub, num_skills=arguments.skills, num_memories=arguments.memories) as programs,
    ):
        print(f"{arguments.skills} skills and {arguments.memories} memories where recall is full")
        asyncio.run(_measure([*programs, *others], arguments))


async def _measure(programs: list[Program], arguments: argparse.Namespace) -> None:
    for program in programs:
        await _until_open(program)
        await _load(program, "plain", 50, 4, "warming up")
    for kind in arguments.kinds:
        for concurrency in arguments.concurrency:
            num_requests = max(concurrency * ROUNDS, arguments.requests // (8 if kind == "stream" else 1))
            await _compare(programs, kind, num_requests // ROUNDS, concurrency)
    if "stream" in arguments.kinds:
        for program in programs[4:]:  # the bare pass-through notices nothing until the model says something
            await measure_leaving(program, programs[0])
    if arguments.resident:
        await _watch_resident(programs, arguments.resident)


async def _compare(programs: list[Program], kind: str, num_requests: int, concurrency: int) -> None:
    seen = {program.name: Load() for program in programs}
    cpu_s = dict.fromkeys(seen, 0.0)
    added: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in seen}
    for number in range(ROUNDS):
        direct: dict[str, float] = {}
        for program in programs:
            before = program.cpu_s
            part = await _load(program, kind, num_requests, concurrency, f"{concurrency} at a time, round {number}")
            await _until_idle(program)
            cpu_s[program.name] += program.cpu_s - before
            seen[program.name].add(part)
            took = {"first": part.percentile_ms(50, "firsts")}
            took |= {f"p{percent}": part.percentile_ms(percent) for percent in (50, 95, 99)}
            direct = direct or took
            for column in _COLUMNS:
                added[program.name][column].append(took[column] - direct[column])
    print(f"\n{kind}, {concurrency} at a time: direct, then what the others add, ms (medians of {ROUNDS} rounds)")
    columns = (*_COLUMNS, "x bare", "per s", "CPU ms")
    print(f"  {'':22}" + "".join(f"{column:>9}" for column in columns))
    bare = statistics.median(added[BARE]["p50"])
    for program in programs:
        name, all_of_it = program.name, seen[program.name]
        if name == DIRECT:
            own = [all_of_it.percentile_ms(percent) for percent in (50, 95, 99)] + [
                all_of_it.percentile_ms(50, "firsts")
            ]
            ratio = float("nan")
        else:
            own = [statistics.median(added[name][column]) for column in _COLUMNS]
            ratio = own[0] / bare if bare > 0 else float("nan")
        values = (*own, ratio, all_of_it.per_s, 1e3 * cpu_s[name] / len(all_of_it.totals))
        print(f"  {name:22}" + "".join(f"{value:9.2f}" for value in values), flush=True)


async def _watch_resident(programs: list[Program], num_requests: int) -> None:
    print(f"\nresident MiB over {num_requests} more requests, recall off")
    program = next(program for program in programs if program.name == PLAIN)
    steps = 10
    for step in range(steps + 1):
        print(f"  after {step * num_requests // steps:6}: {program.resident_mib:6.1f}", flush=True)
        if step < steps:
            await _load(program, "plain", num_requests // steps, 32, f"step {step}")
    full = next(program for program in programs if program.name not in (PLAIN, SKELETON, POSTED, BARE, DIRECT))
    print(f"  {full.name}, as measured above: {full.resident_mib:.1f}")


async def _load(program: Program, kind: str, num_requests: int, concurrency: int, occasion: str) -> Load:
    seen = await load(
        program.port,
        program.path,
        _bodies(kind, occasion),
        token=program.token,
        num_requests=num_requests,
        concurrency=concurrency,
        host=program.host,
        models_own_s=_thinking_s,
    )
    if set(seen.statuses) != {200}:
        raise SystemExit(f"{program.name} answered {seen.statuses}")
    return seen


def _bodies(kind: str, occasion: str) -> Callable[[int], bytes]:
    """A new conversation each, never asked before, and the same ones for every program on one ``occasion``."""
    rng = random.Random(f"{kind}, {occasion}")
    words = sentences(random.Random(2), of=rng)

    def body(number: int) -> bytes:
        first, second, third = rng.sample(TOPICS, 3)
        text = (
            f"Question {number}.{rng.randrange(10**9)}: how do {first} and {second} work together when {third} fails,"
            f" and what of {words(8)}?"
        )
        if kind == "thinking":
            text += f" [[think {rng.uniform(5, 20):.3f}]]"
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}]
        return json.dumps({"model": "stub", "messages": messages, "stream": kind == "stream"}).encode()

    return body


def _thinking_s(body: bytes) -> float:
    return float(found[1]) / 1e3 if (found := _THINK.search(body)) else 0.0


async def _until_idle(program: Program) -> None:
    """What a program puts off, as the gateway its journal, is counted as its own and not in the next one's way."""
    before = float("-inf")
    while program.cpu_s > before + _IDLE_CPU_S:  # of another's program nothing is known
        before = program.cpu_s
        await asyncio.sleep(_LOOK_S)


async def _until_open(program: Program) -> None:
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection(program.host, program.port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit(f"nothing answers on port {program.port}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="per program and setting")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--skills", type=int, default=2000)
    parser.add_argument("--memories", type=int, default=50_000)
    parser.add_argument("--resident", type=int, default=20_000)
    parser.add_argument("--stub-port", type=int, default=0)
    parser.add_argument("--reference", default="", metavar="URL", help="base URL of another gateway, with /v1")
    parser.add_argument("--reference-token", default="benchmark")
    return parser.parse_args()


if __name__ == "__main__":
    main()
