"""What is measured side by side: the stub model, three limits, and gateways without and with recall.

Owns starting them and what they recall from; refuses to know how they are measured. Invariant: every process that was
started ends with the block.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from metaclaw.config import Settings
from metaclaw.config_file import dump_settings
from metaclaw.memory.portable import import_units
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit

TOKEN = "benchmark"
DIRECT, BARE, POSTED, SKELETON, PLAIN = "direct", "pass-through", "pass-through, posted", "skeleton", "gateway"
PATH = "/v1/chat/completions"
TOPICS = ["database", "deploy", "python", "cluster", "login", "tables", "mail", "cron", "cache", "billing", "travel",
          "recipe", "garden", "tax", "contract", "heating"]  # fmt: skip
_NOW = 1_780_000_000.0
_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One way to the model. Of another's program nothing is known but where it is."""

    name: str
    port: int
    process: psutil.Process | None = None
    host: str = "127.0.0.1"
    path: str = PATH
    token: str = TOKEN

    @property
    def cpu_s(self) -> float:
        return float("nan") if self.process is None else sum(self.process.cpu_times()[:2])

    @property
    def resident_mib(self) -> float:
        return float("nan") if self.process is None else self.process.memory_info().rss / 2**20


def reference(url: str, token: str) -> Program:
    """Another gateway, by its base URL up to and with ``/v1``."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not parts.port:
        raise SystemExit(f"--reference {url!r} is not like http://127.0.0.1:30001/v1")
    path = f"{parts.path.rstrip('/')}/chat/completions"
    return Program(name="reference", host=parts.hostname, port=parts.port, path=path, token=token)


@contextmanager
def running(folder: Path, stub: int, *, num_skills: int, num_memories: int) -> Generator[list[Program]]:
    """All of them, the model itself first."""
    bare, posted, skeleton, plain, full = (free_port() for _ in range(5))
    _write_skills(folder / "full", num_skills)
    _write_memories(_settings(folder / "full", full, stub, True), num_memories)
    gateway = [sys.executable, "-m", "metaclaw.gateway"]
    commands = {
        DIRECT: ([sys.executable, "-m", "benchmarks.stub_model", str(stub), "1"], stub, None),
        BARE: ([sys.executable, "-m", "benchmarks.bare_proxy", str(bare), str(stub)], bare, None),
        POSTED: (
            [sys.executable, "-m", "benchmarks.bare_proxy", str(posted), str(stub), "posted"], posted, None,
        ),
        SKELETON: (
            [sys.executable, "-m", "benchmarks.skeleton_proxy", str(skeleton), str(stub), TOKEN, str(folder / "skel")],
            skeleton, None,
        ),
        PLAIN: (gateway, plain, _settings(folder / "plain", plain, stub, False)),
        "gateway, full recall": (gateway, full, _settings(folder / "full", full, stub, True)),
    }  # fmt: skip
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def sentences(rng: random.Random, *, of: random.Random | None = None) -> Callable[[int], str]:
    """Texts of ``n`` words, as rare and as frequent as in a language (Zipf), of a vocabulary of 30,000.

    ``rng`` makes the vocabulary, and draws from it unless ``of`` does.
    """
    words = [f"{rng.choice('bdfgklmnprstvz')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{n:x}" for n in range(30_000)]
    total, cumulative = 0.0, list[float]()
    for n in range(len(words)):
        total += 1 / (n + 3)
        cumulative.append(total)
    drawing = of or rng
    return lambda length: " ".join(drawing.choices(words, cum_weights=cumulative, k=length))


def _settings(home: Path, port: int, stub: int, has_recall: bool) -> Settings:
    return Settings.model_validate(
        {
            "home": home,
            "llm": {"api_base": f"http://127.0.0.1:{stub}/v1"},
            "proxy": {"api_key": TOKEN, "port": port},
            "skills": {"enabled": has_recall, "starter": False},
            "memory": {"enabled": has_recall},
        }
    )


def _write_skills(home: Path, num_skills: int) -> None:
    rng = random.Random(1)
    text = sentences(random.Random(2))
    for number in range(num_skills):
        folder = home / "skills" / f"skill-{number}"
        folder.mkdir(parents=True)
        first, second = rng.sample(TOPICS, 2)
        about = f"Mend {first} number {number} after {second}: {text(12)}"
        head = f"---\nname: skill-{number}\ndescription: '{about}'\n---\n"
        (folder / "SKILL.md").write_text(head + "Steps. " * 40 + "\n")


def _write_memories(settings: Settings, num_memories: int) -> None:
    rng, text = random.Random(3), sentences(random.Random(2))
    settings.memory_db.parent.mkdir(parents=True, exist_ok=True)
    with MemoryStore.open(settings.memory_db) as store:
        for first in range(0, num_memories, _BATCH):
            numbers = range(first, min(num_memories, first + _BATCH))
            import_units(store, (_memory(number, f"{rng.choice(TOPICS)} {text(17)}") for number in numbers))


def _memory(number: int, text: str) -> MemoryUnit:
    at = _NOW - number * 60.0
    return MemoryUnit(
        id=f"m{number}", kind="semantic", text=text, agent="main", scope="agent", turns=(f"t{number // 3}",),
        said_at=at, created_at=at,
    )  # fmt: skip
