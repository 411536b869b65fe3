"""What holds in every test: no network beyond this machine, and never the user's home.

The guard sees this process only. A program that a test starts inherits the variables below instead.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # idle OpenMP threads spin, and two processes then starve each other
# How long an example takes says nothing on a busy machine. Whether a change goes in must not hang on which examples are
# drawn: .ci/run draws the same ones each time, and whoever works on the code others in each run.
settings.register_profile("ours", deadline=None, derandomize=bool(os.environ.get("METACLAW_SAME_EXAMPLES")))
settings.load_profile("ours")
# A session whose server a test has ended says so every ten seconds, for minutes, in the midst of what failed.
logging.getLogger("tinker.lib.internal_client_holder").setLevel(logging.ERROR)
_KEPT = {"METACLAW_CACHE", "METACLAW_KILLS"}  # where prepared models are; how long the chaos test runs


def _refuse_the_network(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        connection, address = arguments
        if isinstance(connection, socket.socket) and connection.family in (socket.AF_INET, socket.AF_INET6):
            _require_loopback(address[0] if isinstance(address, tuple) else address)
    elif event == "socket.getaddrinfo":
        _require_loopback(arguments[0])


def _require_loopback(host: object) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        is_ours = ip_address(str(name)).is_loopback or ip_address(str(name)).is_unspecified
    except ValueError:
        is_ours = False
    if not is_ours:
        raise ConnectionRefusedError(f"tests have no network: {name!r}")


sys.addaudithook(_refuse_the_network)


@pytest.fixture(autouse=True)
def _a_home_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in [name for name in os.environ if name.startswith("METACLAW_") and name not in _KEPT]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("METACLAW_HOME", str(tmp_path / "metaclaw-home"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
