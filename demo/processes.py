"""The three programs, started and stopped as a user would, in a home and on ports of their own.

Owns the child processes, their logs and their memory figures; refuses to know what is said to them. Invariant:
when the context is left, however it is left, nothing that was started here is still running.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parent.parent
STOP_TIMEOUT_S = 20.0


class ProgramError(RuntimeError):
    """A program did not start; the text holds the end of its log."""


@dataclass(slots=True)
class Programs:
    """``metaclaw train-server`` and ``metaclaw start`` (gateway and learner) on loopback."""

    home: Path
    settings: Mapping[str, str]
    model: str = "smollm2"
    verifier: str = "demo.verifier:judge"
    gateway_port: int = field(default_factory=lambda: free_port())
    server_port: int = field(default_factory=lambda: free_port())
    server_key: str = field(default_factory=lambda: secrets.token_hex(16))
    peak_mib: dict[str, float] = field(default_factory=dict)
    peak_total_mib: float = 0.0
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _watch: asyncio.Task[None] | None = None

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}/v1"

    @property
    def server_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gateway_token(self) -> str:
        return self._metaclaw("config", "proxy.api_key").strip()

    async def __aenter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self._metaclaw(
            "setup", "--yes", "--mode", "rl", "--port", str(self.gateway_port), "--rl-model", self.model,
            "--remote-url", self.server_url, "--remote-api-key", self.server_key,
            "--judge-verifier", self.verifier,
        )  # fmt: skip
        for key, value in self.settings.items():
            self._metaclaw("config", key, value)
        try:
            await self.start_server()
            await self.start_gateway()
        except BaseException:
            self._stop()
            raise
        self._watch = asyncio.create_task(self._watch_memory())
        return self

    async def start_server(self) -> None:
        await self._start(f"{self.server_url}/readyz", "train-server", "--port", str(self.server_port))

    async def start_gateway(self) -> None:
        """Start the gateway and the learner."""
        await self._start(f"http://127.0.0.1:{self.gateway_port}/healthz", "start")

    async def __aexit__(self, *_: object) -> None:
        if self._watch:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        self._stop()

    def _environment(self) -> dict[str, str]:
        ours = {"METACLAW_HOME": str(self.home), "METACLAW_TRAIN_API_KEY": self.server_key, "PYTHONPATH": str(ROOT)}
        return {**os.environ, **ours, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "NO_COLOR": "1"}

    def _metaclaw(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "metaclaw.cli.main", *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ProgramError(f"metaclaw {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    async def _start(self, ready_url: str, *arguments: str) -> None:
        log = self.home / f"{arguments[0]}.log"
        child = self._spawn(log, arguments)
        while not await asyncio.to_thread(_answers, ready_url):
            if child.poll() is not None:
                tail = log.read_text(errors="replace")[-2000:]
                raise ProgramError(f"metaclaw {arguments[0]} ended with {child.returncode}; the end of {log}:\n{tail}")
            await asyncio.sleep(0.3)

    def _spawn(self, log: Path, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "metaclaw.cli.main", *arguments],
                env=self._environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._children.append(child)
        return child

    def processes(self) -> dict[str, psutil.Process]:
        """Every process of ours by its part's name (train-server, engine, sampler, start, gateway, learner)."""
        found: dict[str, psutil.Process] = {}
        for child in self._children:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(child.pid)
                for process in (parent, *parent.children(recursive=True)):
                    found[_part(process.cmdline())] = process
        return found

    async def _watch_memory(self) -> None:
        while True:
            total = 0.0
            for name, process in self.processes().items():
                with suppress(psutil.Error):
                    mib = await asyncio.to_thread(_proportional_mib, process)
                    total += mib
                    self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), mib)
            self.peak_total_mib = max(self.peak_total_mib, total)
            await asyncio.sleep(1.0)

    def _stop(self) -> None:
        everyone = list(self.processes().values())
        for child in reversed(self._children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(everyone, timeout=STOP_TIMEOUT_S)
        for process in alive:
            process.kill()
        for child in self._children:
            child.wait()
        if alive:
            pids = [process.pid for process in alive]
            raise ProgramError(f"had to kill {pids}: not ended {STOP_TIMEOUT_S:.0f} s after SIGTERM")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _part(command: list[str]) -> str:
    words = " ".join(command)
    for name in ("worker engine", "worker sampler", "metaclaw.gateway", "metaclaw.learner", "train-server"):
        if name in words:
            return name.removeprefix("worker ").removeprefix("metaclaw.")
    return "start"


def _proportional_mib(process: psutil.Process) -> float:
    """Memory of one process; pages that it shares are divided among the sharers where the system can tell (Linux)."""
    full = process.memory_full_info()
    return getattr(full, "pss", full.rss) / 2**20
