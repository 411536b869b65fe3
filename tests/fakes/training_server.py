"""A real training server in a process of its own, on the tiny model: for tests that speak to it over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.training.device import DEVICE

API_KEY = "a-test-key"
_START_S = 90.0
_MAIN = """
import json, sys
from pathlib import Path
from metaclaw.config import Settings
from metaclaw.training.api.server import serve
serve(Settings.model_validate(json.loads(sys.stdin.readline())))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingServer:
    """Where it listens and its process."""

    process: subprocess.Popen[bytes]
    port: int
    model: Path
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def worker_pid(self, name: str) -> int:
        """The process id of ``engine`` or ``sampler``; waits for one that is being started again."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):  # one that has just ended
                    if child.cmdline()[-1:] == [name]:
                        return child.pid
            time.sleep(0.02)
        raise LookupError(f"there is no {name} process")

    def kill_worker(self, name: str) -> None:
        os.kill(self.worker_pid(name), signal.SIGKILL)

    @contextmanager
    def suspended(self, name: str) -> Iterator[None]:
        """Stop ``engine`` or ``sampler`` where it is, and let it go on at the end: what was sent to it stays open."""
        process = psutil.Process(self.worker_pid(name))
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def is_ready(self) -> bool:
        """Raises ``RuntimeError`` once the server has given up."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            with error:
                body = json.load(error)
            if body["status"] == "failed":
                raise RuntimeError(f"the server gave up: {body['detail']}") from error
            return False
        except OSError:
            return False

    def wait_until_ready(self, timeout_s: float = _START_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError("the server did not become ready")
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def training_server(
    model: Path, data_dir: Path, *, port: int | None = None, start_s: float = _START_S, **settings: object
) -> Iterator[TrainingServer]:
    """Start a server, wait until it is ready, and stop it with its children at the end."""
    port = port or free_port()
    own = {
        "base_model": str(model), "port": port, "api_key": API_KEY, "data_dir": str(data_dir), "engine_threads": 1,
        "dtype": "float32", "training_devices": DEVICE, "inference_devices": DEVICE,
    }  # fmt: skip
    line = json.dumps({"train_server": {**own, "sampler_threads": 1, **settings}}) + "\n"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", _MAIN], stdin=subprocess.PIPE, env=environment)
    try:
        assert process.stdin is not None
        process.stdin.write(line.encode())
        process.stdin.close()
        server = TrainingServer(process=process, port=port, model=model, data_dir=data_dir)
        server.wait_until_ready(start_s)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
