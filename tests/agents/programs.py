"""Agent programs that we did not write, as their users run them: each with a home of its own, pointed at a gateway.

``make test-agents`` puts them into ``.agents``. They are pointed at it by ``metaclaw connect``, but OpenClaw where it
runs by itself: there it is shown to need no plugin, and speaks each of its dialects.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.programs import metaclaw

ROOT = Path(__file__).resolve().parents[2]
MODULES = Path(os.environ.get("METACLAW_AGENTS") or ROOT / ".agents") / "node_modules"
LIMIT_S = 400.0  # OpenClaw takes half a minute for a turn on two idle cores
OPENCLAW_SESSION = "5e551014-0000-4000-8000-000000000001"
_OPENCLAW_TEMP = (Path("/tmp/openclaw"), Path(f"/tmp/openclaw-state-locks-{os.getuid()}"))

# What opencode writes itself when it is not there is there: the schema.
_OPENCODE = """\
{
  // mine
  "$schema": "https://opencode.ai/config.json", "autoupdate": false,
  "permission": {"bash": "ask"}
}
"""
# Tests run as root in a container too, where Codex's sandbox cannot be made; what its model may run is one `cat`.
_CODEX = """\
# mine
model = "gpt-5"
approval_policy = "never"
sandbox_mode = "danger-full-access"
"""
_NANOBOT = """\
{
  "agents": {"defaults": {"workspace": "WORK", "model": "anthropic/claude"}},
 "providers": {"anthropic": {"apiKey": "sk-theirs"}}
}
"""
_AIDER = """\
# mine
dark-mode: true
model: gpt-4o   # dear
analytics: false
"""
_HERMES = """\
# mine
model:
    default: anthropic/claude   # dear
    provider: openrouter
terminal: {backend: local}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of one run of a program."""

    code: int
    out: str
    errors: str

    def __str__(self) -> str:
        return f"code {self.code}\n--- out\n{self.out[-4000:]}\n--- errors\n{self.errors[-4000:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Where a program is pointed at; ``url`` is without ``/v1``, ``home`` is METACLAW_HOME."""

    url: str
    token: str
    home: Path

    def wire(self, what: str, name: str, environment: dict[str, str]) -> None:
        """``connect`` or ``disconnect``, as the user with that environment does it."""
        done = metaclaw(self.home, what, name, "--yes", env=environment)
        assert done.returncode == 0, done.stderr


@dataclass(slots=True, kw_only=True)
class Program:
    """A program in a folder of its own, with one conversation. Its working folder is ``place / "work"``.

    ``command`` makes a command line of a message and of whether it is the first one. ``wired_as`` is its name where
    ``metaclaw connect`` pointed it at the gateway, by ``config``, which said ``as_it_was`` before.
    """

    place: Path
    command: Callable[[str, bool], list[str]]
    environment: dict[str, str]
    wired_as: str = ""
    config: Path = Path()
    as_it_was: str = ""
    is_begun: bool = field(default=False, init=False)

    def connect(self, gateway: Gateway) -> None:
        """Write the user's file, and have our entries put into it."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self.as_it_was)
        gateway.wire("connect", self.wired_as, clean_environment(self.place))
        assert self.config.read_text() != self.as_it_was

    def disconnect(self, gateway: Gateway) -> None:
        """Have the user's file given back, byte for byte."""
        if self.wired_as:
            gateway.wire("disconnect", self.wired_as, clean_environment(self.place))
            assert self.config.read_text() == self.as_it_was

    def say(self, text: str) -> Said:
        """One turn. What takes longer than ``LIMIT_S`` is killed with all that it started."""
        command = self.command(text, not self.is_begun)
        self.is_begun = True
        process = subprocess.Popen(
            command, cwd=self.place / "work", env=clean_environment(self.place) | self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            out, errors = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, errors = process.communicate()
            errors += f"\nkilled after {LIMIT_S:g} s"
        return Said(code=process.returncode, out=out, errors=errors)


def openclaw(place: Path, gateway: Gateway, api: str) -> Program:
    """The whole agent in one process, without OpenClaw's own gateway."""
    base_url = gateway.url if api == "anthropic-messages" else f"{gateway.url}/v1"
    model = {"id": "metaclaw", "name": "MetaClaw", "contextWindow": 128_000, "maxTokens": 4096}
    provider = {"baseUrl": base_url, "apiKey": gateway.token, "api": api, "models": [model]}
    defaults = {"model": {"primary": "metaclaw/metaclaw"}, "workspace": str(place / "work")}
    config = {
        "models": {"mode": "merge", "providers": {"metaclaw": provider}},
        "agents": {"defaults": defaults},
        "skills": {"workshop": {"autonomous": {"mode": "off"}}},
        "logging": {"file": str(place / "openclaw.log")},
    }
    make_place(place)
    (place / "openclaw.json").write_text(json.dumps(config))
    start = [node(), str(MODULES / "openclaw" / "openclaw.mjs"), "agent", "--local", "--agent", "main", "--json"]
    return Program(
        place=place,
        command=lambda text, _is_first: [*start, "--session-id", OPENCLAW_SESSION, "--message", text],
        environment={
            "OPENCLAW_CONFIG_PATH": str(place / "openclaw.json"),
            "OPENCLAW_STATE_DIR": str(place / "state"),
        },
    )


def claude_code(place: Path, gateway: Gateway) -> Program:
    make_place(place)
    start = [_one("@anthropic-ai/claude-code-*/claude"), "-p", "--output-format", "json"]
    program = Program(
        place=place,
        command=lambda text, is_first: [*start, *([] if is_first else ["--continue"]), text],
        environment={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"},
        wired_as="claude-code",
        config=place / "home" / ".claude" / "settings.json",
        as_it_was='{"permissions": {"allow": ["Bash(git log:*)"]},\n\n  "env": {"EDITOR": "vim"}}',
    )
    program.connect(gateway)
    return program


def opencode(place: Path, gateway: Gateway) -> Program:
    make_place(place)
    start = [_one("opencode-*/bin/opencode"), "run"]
    program = Program(
        place=place,
        command=lambda text, is_first: [*start, *([] if is_first else ["--continue"]), text],
        environment={"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"},
        wired_as="opencode",
        config=place / "home" / ".config" / "opencode" / "opencode.jsonc",
        as_it_was=_OPENCODE,
    )
    program.connect(gateway)
    return program


def codex(place: Path, gateway: Gateway) -> Program:
    make_place(place)
    start = [_one("@openai/codex-*/vendor/*/bin/codex"), "exec", "--skip-git-repo-check"]
    program = Program(
        place=place,
        command=lambda text, is_first: [*start, *([] if is_first else ["resume", "--last"]), text],
        environment={},
        wired_as="codex",
        config=place / "home" / ".codex" / "config.toml",
        as_it_was=_CODEX,
    )
    program.connect(gateway)
    return program


def nanobot(place: Path, gateway: Gateway) -> Program:
    make_place(place)
    start = [_from_pypi("nanobot-ai", "nanobot"), "agent", "--classic", "--no-markdown", "--message"]
    program = Program(
        place=place,
        command=lambda text, _is_first: [*start, text],
        environment={},
        wired_as="nanobot",
        config=place / "home" / ".nanobot" / "config.json",
        as_it_was=_NANOBOT.replace("WORK", str(place / "work")),
    )
    program.connect(gateway)
    return program


def hermes(place: Path, gateway: Gateway) -> Program:
    make_place(place)
    start = [_from_pypi("hermes-agent", "hermes"), "chat", "-Q"]
    program = Program(
        place=place,
        command=lambda text, is_first: [*start, *([] if is_first else ["--continue"]), "-q", text],
        environment={},
        wired_as="hermes",
        config=place / "home" / ".hermes" / "config.yaml",
        as_it_was=_HERMES,
    )
    program.connect(gateway)
    return program


def aider(place: Path, gateway: Gateway) -> Program:
    """It has no tools: the model's answer is the edit."""
    make_place(place)
    flags = ("--yes-always", "--no-git", "--no-check-update", "--no-show-model-warnings", "--no-show-release-notes")
    start = [_from_pypi("aider-chat", "aider"), *flags, "--edit-format", "whole"]
    program = Program(
        place=place,
        command=lambda text, is_first: [*start, "--message", text, "facts.txt"],
        environment={},
        wired_as="aider",
        config=place / "home" / ".aider.conf.yml",
        as_it_was=_AIDER,
    )
    program.connect(gateway)
    return program


class OpenClawLeavings:
    """What OpenClaw writes into the system's temporary folder, whatever home it is given."""

    def __init__(self) -> None:
        self._found = [folder for folder in _OPENCLAW_TEMP if folder.exists()]

    def remove(self, place: Path) -> None:
        """Remove what a program in ``place`` left, and no other's: a user's own OpenClaw may be running."""
        for database in (place / "state").rglob("*.sqlite"):
            owner = hashlib.sha256(str(database.resolve()).encode()).hexdigest()[:8]
            for lock in _OPENCLAW_TEMP[1].glob(f"*.{owner}.lock.sqlite*"):
                lock.unlink()
        for folder in _OPENCLAW_TEMP:
            if folder.exists() and folder not in self._found and not any(folder.iterdir()):
                folder.rmdir()


def make_place(place: Path) -> None:
    for name in ("work", "home", "tmp"):
        (place / name).mkdir(parents=True)


def clean_environment(place: Path) -> dict[str, str]:
    """Nothing of the user's: neither home nor keys."""
    return {
        "PATH": f"{Path(node()).parent}:{os.environ['PATH']}",
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
    }


def node() -> str:
    return _one("node-*/bin/node")


def _one(pattern: str) -> str:
    found = sorted(MODULES.glob(pattern))
    assert found, f"{MODULES} has no {pattern}: run `make test-agents`, which installs it"
    return str(found[0])


def _from_pypi(package: str, name: str) -> str:
    place = MODULES.parent / "pypi" / package / "bin" / name
    if not place.exists():
        pytest.skip(f"{place} is not there: `make agents-pypi` installs it")
    return str(place)
