"""What the gateway adds to a request: direct, through a bare pass-through, and through the gateway, in one run.

    python -m benchmarks.gateway [--requests 2000] [--concurrency 1 8 32 128] [--skills 2000] [--memory 20000]

All programs are processes of their own on loopback before one stub model, whose streams send a token each millisecond.
Rounds are interleaved, so a busy machine slows all of them: quote the ratios. CPU is that of the measured program.
``--memory N`` sends N more requests through the gateway without recall and reports its resident memory on the way.
``--also NAME=PORT`` measures another gateway that runs on this machine already, before the same stub (``--stub-port``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop

from benchmarks.http_load import Load, load
from metaclaw.config import Settings
from metaclaw.config_file import dump_settings

TOKEN = "benchmark"
PATH = "/v1/chat/completions"
ROUNDS = 5
_TOPICS = ["database", "deploy", "python", "cluster", "login", "tables", "mail", "cron", "cache", "billing", "travel",
           "recipe", "garden", "tax", "contract", "heating"]  # fmt: skip
_SYSTEM = "You are a careful assistant. " * 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One way to the model."""

    name: str
    port: int
    process: psutil.Process | None  # of another's program nothing is known


def main() -> None:
    arguments = _arguments()
    uvloop.install()
    stub = arguments.stub_port or _free_port()
    others = [Program(name=name, port=int(port), process=None) for name, _, port in map(_parted, arguments.also)]
    with tempfile.TemporaryDirectory() as folder, _programs(Path(folder), stub, arguments.skills) as programs:
        asyncio.run(_measure([*programs, *others], arguments))


async def _measure(programs: list[Program], arguments: argparse.Namespace) -> None:
    for program in programs:
        await _until_open(program.port)
        await load(program.port, PATH, _bodies(is_stream=False), token=TOKEN, num_requests=50, concurrency=4)
    for is_stream in (False, True):
        for concurrency in arguments.concurrency:
            num_requests = max(concurrency * ROUNDS, arguments.requests // (4 if is_stream else 1))
            await _compare(programs, num_requests, concurrency, is_stream)
    if arguments.memory:
        await _watch_memory(next(program for program in programs if program.name == "gateway"), arguments.memory)


async def _compare(programs: list[Program], num_requests: int, concurrency: int, is_stream: bool) -> None:
    seen = {program.name: Load() for program in programs}
    cpu_s = dict.fromkeys(seen, 0.0)
    added: dict[str, list[float]] = {name: [] for name in seen}
    for _ in range(ROUNDS):
        direct_ms = 0.0
        for program in programs:
            before = _cpu_s(program)
            part = await load(
                program.port,
                PATH,
                _bodies(is_stream=is_stream),
                token=TOKEN,
                num_requests=num_requests // ROUNDS,
                concurrency=concurrency,
            )
            cpu_s[program.name] += _cpu_s(program) - before
            if set(part.statuses) != {200}:
                raise SystemExit(f"{program.name} answered {part.statuses}")
            seen[program.name].add(part)
            direct_ms = direct_ms or part.percentile_ms(50)
            added[program.name].append(part.percentile_ms(50) - direct_ms)
    _report(seen, cpu_s, added, concurrency, is_stream)


def _cpu_s(program: Program) -> float:
    return float("nan") if program.process is None else sum(program.process.cpu_times()[:2])


def _parted(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _report(
    seen: dict[str, Load], cpu_s: dict[str, float], added: dict[str, list[float]], concurrency: int, is_stream: bool
) -> None:
    print(f"\n{'stream' if is_stream else 'plain'}, {concurrency} at a time (ms; added against direct, same round)")
    columns = ("p50", "p95", "p99", "first p50", "per s", "CPU ms", "p50 added", "x bare")
    print(f"  {'':22}" + "".join(f"{column:>11}" for column in columns))
    bare = sorted(added["pass-through"])[ROUNDS // 2]
    for name, result in seen.items():
        mine = sorted(added[name])[ROUNDS // 2]
        values = (
            result.percentile_ms(50), result.percentile_ms(95), result.percentile_ms(99),
            result.percentile_ms(50, "firsts"), result.per_s, 1e3 * cpu_s[name] / len(result.totals), mine,
            mine / bare if bare > 0 else float("nan"),
        )  # fmt: skip
        print(f"  {name:22}" + "".join(f"{value:11.2f}" for value in values))


async def _watch_memory(program: Program, num_requests: int) -> None:
    assert program.process is not None
    print(f"\nresident MiB of the gateway, recall off, over {num_requests} more requests")
    steps = 10
    for step in range(steps + 1):
        print(f"  after {step * num_requests // steps:6}: {program.process.memory_info().rss / 2**20:6.1f}")
        if step < steps:
            await load(
                program.port,
                PATH,
                _bodies(is_stream=False),
                token=TOKEN,
                num_requests=num_requests // steps,
                concurrency=32,
            )


def _bodies(*, is_stream: bool) -> Callable[[int], bytes]:
    rng = random.Random(7)

    def body(number: int) -> bytes:
        first, second, third = rng.sample(_TOPICS, 3)
        text = (
            f"Question {number}.{rng.randrange(10**9)}: how do {first} and {second} work together when {third} fails?"
        )
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}]
        return json.dumps({"model": "stub", "messages": messages, "stream": is_stream}).encode()

    return body


@contextmanager
def _programs(folder: Path, stub: int, num_skills: int) -> Generator[list[Program]]:
    bare, plain, full = (_free_port() for _ in range(3))
    _write_skills(folder / "full", num_skills)
    commands = {
        "direct": ([sys.executable, "-m", "benchmarks.stub_model", str(stub), "1"], stub, None),
        "pass-through": ([sys.executable, "-m", "benchmarks.bare_proxy", str(bare), str(stub)], bare, None),
        "gateway": ([sys.executable, "-m", "metaclaw.gateway"], plain, _settings(folder / "plain", plain, stub, False)),
        f"gateway, {num_skills} skills": (
            [sys.executable, "-m", "metaclaw.gateway"],
            full,
            _settings(folder / "full", full, stub, True),
        ),
    }
    children: list[subprocess.Popen[bytes]] = []
    programs: list[Program] = []
    try:
        for name, (command, port, settings) in commands.items():
            child = subprocess.Popen(command, stdin=subprocess.PIPE)
            children.append(child)
            if settings is not None:
                assert child.stdin is not None
                child.stdin.write(dump_settings(settings).encode() + b"\n")
                child.stdin.flush()
            programs.append(Program(name=name, port=port, process=psutil.Process(child.pid)))
        yield programs
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)


def _settings(home: Path, port: int, stub: int, has_recall: bool) -> Settings:
    return Settings.model_validate(
        {
            "home": home,
            "llm": {"api_base": f"http://127.0.0.1:{stub}/v1"},
            "proxy": {"api_key": TOKEN, "port": port},
            "skills": {"enabled": has_recall, "starter": False},
            "recall": {"max_memories": 0},
        }
    )


async def _until_open(port: int) -> None:
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit(f"nothing answers on port {port}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _write_skills(home: Path, num_skills: int) -> None:
    rng = random.Random(1)
    for number in range(num_skills):
        folder = home / "skills" / f"skill-{number}"
        folder.mkdir(parents=True)
        first, second = rng.sample(_TOPICS, 2)
        text = f"---\nname: skill-{number}\ndescription: Mend {first} number {number} after {second}\n---\n"
        (folder / "SKILL.md").write_text(text + "Steps. " * 40 + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="per program and setting")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--skills", type=int, default=2000)
    parser.add_argument("--memory", type=int, default=20_000)
    parser.add_argument("--stub-port", type=int, default=0)
    parser.add_argument("--also", nargs="*", default=[], metavar="NAME=PORT")
    return parser.parse_args()


if __name__ == "__main__":
    main()
