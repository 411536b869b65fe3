"""Half an hour of what a gateway goes through: does it lose a turn, write one twice, or grow?

    python -m benchmarks.soak [--minutes 30] [--rate 0] [--kill-every 60]

A real `metaclaw start` in a home of its own before the stub model, at half the rate that it was measured to bear (or at
``--rate``). Of the clients some leave in the middle, of the model's answers some fail or break, and every so often the
gateway is killed with SIGKILL; its supervisor starts it again. Afterwards the journal is compared with what the clients
saw: an answer that was seen to its end must be there once, done, word for word; no turn may be left open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks.http_load import load
from benchmarks.stub_model import WORDS
from metaclaw.journal.turns import TurnReader
from metaclaw.processes.instance import running_instance

TOKEN = "soak"
PATH = "/v1/chat/completions"
CLIENTS = 64
_KINDS = ("plain", "stream", "stream", "leave", "500", "break")


@dataclass(slots=True)
class Seen:
    """What the clients saw. ``complete`` has the numbers of the questions whose answers came to their end."""

    complete: set[int] = field(default_factory=set[int])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    num_asked: int = 0


def main() -> None:
    arguments = _arguments()
    uvloop.install()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        stub, port = _free_port(), _free_port()
        model = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stub_model", str(stub), "1"], stderr=subprocess.DEVNULL
        )
        program = _start(home, stub, port)
        try:
            asyncio.run(_soak(home, port, arguments))
        finally:
            program.terminate()
            program.wait(30)
            model.terminate()
            model.wait(10)


async def _soak(home: Path, port: int, arguments: argparse.Namespace) -> None:
    await _until_healthy(port)
    rate = arguments.rate or await _half_of_the_maximum(port)
    print(f"{rate:.0f} requests a second from {CLIENTS} clients for {arguments.minutes:g} minutes")
    seen, end = Seen(), time.monotonic() + 60 * arguments.minutes
    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(_client(number, port, rate / CLIENTS, end, seen))
        tasks.create_task(_killer(home, arguments.kill_every, end, seen))
        tasks.create_task(_watch(home, end, seen))
    await asyncio.sleep(3)
    print(f"asked {seen.num_asked}; {dict(seen.outcomes)}")
    _compare(home, seen)


async def _client(client: int, port: int, rate: float, end: float, seen: Seen) -> None:
    rng = random.Random(client)
    await asyncio.sleep(rng.random() / rate)
    due = time.monotonic()
    while time.monotonic() < end:
        due = max(due + rng.expovariate(rate), time.monotonic() - 1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        seen.num_asked += 1
        number, kind = seen.num_asked, rng.choice(_KINDS)
        try:
            async with asyncio.timeout(60):
                outcome = await _ask(port, client, number, kind)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            outcome = f"{kind}: {type(error).__name__}"
            await asyncio.sleep(0.2)
        seen.outcomes[outcome] += 1
        if outcome in ("plain: complete", "stream: complete"):
            seen.complete.add(number)


async def _ask(port: int, client: int, number: int, kind: str) -> str:
    directive = f"[[{kind}]]" if kind in ("500", "break") else ""
    text = f"question {number} [[say answer-{number}]] {directive}"
    is_stream = kind not in ("plain", "500")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    body = json.dumps({"model": "stub", "messages": messages, "stream": is_stream}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
            f"X-Session-Id: client-{client}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        if kind == "leave":
            await reader.readuntil(b"word5")
            return "leave: left"
        answer = await reader.read()
    finally:
        writer.close()
    status = int(answer[9:12])
    if status != 200:
        return f"{kind}: {status}"
    is_complete = b"data: [DONE]" in answer if is_stream else answer.rstrip().endswith(b"}")
    is_whole = is_complete and f"answer-{number} ".encode() in answer and WORDS[-1].encode() in answer
    return f"{kind}: {'complete' if is_whole else 'an error event' if b'error' in answer else 'cut'}"


async def _killer(home: Path, every_s: float, end: float, seen: Seen) -> None:
    while time.monotonic() + every_s < end:
        await asyncio.sleep(every_s)
        if (pid := _gateway_pid(home)) is not None:
            os.kill(pid, signal.SIGKILL)
            seen.outcomes["kill -9"] += 1


async def _watch(home: Path, end: float, seen: Seen) -> None:
    start = time.monotonic()
    pause_s = max(5.0, (end - start) / 30)
    await asyncio.sleep(pause_s / 2)  # in half an hour it is as long as between two kills: it must not meet them
    while time.monotonic() < end:
        if (pid := _gateway_pid(home)) is not None and psutil.pid_exists(pid):
            resident = psutil.Process(pid).memory_info().rss / 2**20
            minutes = (time.monotonic() - start) / 60
            print(f"  {minutes:5.1f} min: {seen.num_asked:8} asked, gateway {pid} has {resident:6.1f} MiB", flush=True)
        await asyncio.sleep(pause_s)


def _gateway_pid(home: Path) -> int | None:
    instance = running_instance(home)
    return instance.children.get("gateway") if instance else None


def _compare(home: Path, seen: Seen) -> None:
    states: Counter[str] = Counter()
    answers: Counter[int] = Counter()
    wrong = 0
    with TurnReader.open(home / "turns.db") as reader:
        after = 0
        while turns := reader.turns(after_seq=after, limit=2000):
            after = turns[-1].seq
            for turn in turns:
                states[turn.state] += 1
                number = _number(reader.messages(turn))
                if turn.state != "done" or number is None:
                    continue
                answers[number] += 1
                text = str((turn.answer or {}).get("content"))
                wrong += not text.startswith(f"answer-{number} word0 ") or not text.endswith(WORDS[-1])
    lost = [number for number in seen.complete if not answers[number]]
    doubled = [number for number, count in answers.items() if count > 1]
    print(f"turns: {dict(states)}")
    print(
        f"complete for the client {len(seen.complete)}, of them lost {len(lost)}; doubled {len(doubled)}; wrong {wrong}"
    )
    if lost or doubled or wrong or states["open"]:
        raise SystemExit("the journal is not what the clients saw")


def _number(messages: list[dict[str, Any]]) -> int | None:
    words = str(messages[-1].get("content")).split()
    return int(words[1]) if words[:1] == ["question"] else None


async def _half_of_the_maximum(port: int) -> float:
    messages = [{"role": "user", "content": "calibrate"}]

    def body(number: int) -> bytes:
        return json.dumps({"model": "stub", "messages": messages, "stream": number % 2 == 0}).encode()

    found = await load(port, PATH, body, token=TOKEN, num_requests=2000, concurrency=CLIENTS)
    return found.per_s / 2


async def _until_healthy(port: int) -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise SystemExit("the gateway does not start")


def _start(home: Path, stub: int, port: int) -> subprocess.Popen[bytes]:
    lines = [
        "mode: skills_only", "proxy:", f"  port: {port}", f"  api_key: {TOKEN}",
        "llm:", f"  api_base: http://127.0.0.1:{stub}/v1", "  model_id: stub",
    ]  # fmt: skip
    (home / "config.yaml").write_text("\n".join(lines) + "\n")
    (home / "config.yaml").chmod(0o600)
    environment = {**os.environ, "METACLAW_HOME": str(home)}
    log = (home / "soak.log").open("wb")
    return subprocess.Popen(
        [sys.executable, "-m", "metaclaw.cli.main", "start"], env=environment, stdout=log, stderr=log
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0 is half of what it bears")
    parser.add_argument("--kill-every", type=float, default=60.0, help="seconds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
