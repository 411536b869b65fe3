"""OpenClaw with its own gateway running, as its users have it: two agents, and a model that was there before ours."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.agents.programs import LIMIT_S, MODULES, Said, clean_environment, make_place, node
from tests.cli.programs import until

# On a slow disk the upkeep of an agent's new database meets its first turn, which then reaches no model (2026.9).
_ITS_OWN_FAULT = "Agent database cleanup failed"
_TRIES = 3
_RELOADED = "config hot reload applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClawGateway:
    """A running one; ``config`` is its file, ``environment`` what a user of it has."""

    config: Path
    environment: dict[str, str]
    work: Path
    log: Path

    def say(self, agent: str, text: str) -> Said:
        """A turn of ``agent``, in the one conversation with it; said again where OpenClaw did not get to it."""
        session = f"agent:{agent}:talk"
        for _ in range(_TRIES):
            said = self.run("agent", "--agent", agent, "--session-key", session, "--message", text, "--json")
            if _ITS_OWN_FAULT not in said.out + said.errors:
                break
        return said

    def run(self, *words: str) -> Said:
        done = subprocess.run(
            [*_openclaw(), *words], cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        return Said(code=done.returncode, out=done.stdout, errors=done.stderr)

    @property
    def reloads(self) -> int:
        """How often it took its file over since it runs."""
        return self.log.read_text(errors="replace").count(_RELOADED)

    @contextmanager
    def reloading(self) -> Generator[None]:
        """What changes its file in this block is in force behind it."""
        before = self.reloads
        yield
        until(lambda: self.reloads > before, timeout_s=LIMIT_S)


def settings(work: Path, log: Path, model_url: str) -> str:
    """What a user has written; not as a program would."""
    return f"""// my OpenClaw
{{
  models: {{ mode: 'merge', providers: {{ own: {{
    baseUrl: "{model_url}/v1", apiKey: "own-key", api: "openai-completions",
    models: [{{ id: "own-1", name: "Öwn", contextWindow: 128000, maxTokens: 4096 }}], }} }} }},
  agents: {{
    ownership: "explicit",
    defaults: {{ model: {{ primary: "own/own-1" }}, workspace: {json.dumps(str(work))},
                systemAgent: {{ agentId: "main" }}, heartbeat: {{ agentId: "main" }} }},
    entries: {{ main: {{}}, ops: {{ name: "Operations" }} }}, // two of them
  }},
  gateway: {{ mode: "local", auth: {{ mode: "token", token: "openclaws-own" }} }},
  skills: {{ workshop: {{ autonomous: {{ mode: "off" }} }} }},
  logging: {{ file: {json.dumps(str(log))} }},
}}
"""


@contextmanager
def openclaw_gateway(place: Path, model_url: str) -> Generator[OpenClawGateway]:
    """OpenClaw's gateway in ``place``, once it is ready."""
    make_place(place)
    config, log, port = place / "openclaw.json", place / "gateway.log", _free_port()
    config.write_text(settings(place / "work", place / "openclaw.log", model_url))
    config.chmod(0o600)
    environment = clean_environment(place) | {
        "OPENCLAW_CONFIG_PATH": str(config),
        "OPENCLAW_STATE_DIR": str(place / "state"),
        "OPENCLAW_GATEWAY_PORT": str(port),
    }
    running = OpenClawGateway(config=config, environment=environment, work=place / "work", log=log)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*_openclaw(), "gateway", "run", "--port", str(port), "--bind", "loopback"], cwd=running.work,
            env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or _is_ready(port), timeout_s=LIMIT_S)
        assert process.poll() is None, log.read_text(errors="replace")
        yield running
    finally:
        _end(process)


def _openclaw() -> list[str]:
    return [node(), str(MODULES / "openclaw" / "openclaw.mjs")]


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                continue
