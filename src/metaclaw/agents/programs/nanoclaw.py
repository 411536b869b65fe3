"""NanoClaw: Anthropic's variables in the ``.env`` of its checkout.

Owns where that checkout is (its service says so, or it is at one of the usual places) and two variables. By its
documents; there is no package of it to run.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.config_files import is_there
from metaclaw.agents.documents.formats import DOTENV
from metaclaw.agents.program import Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import text_at
from metaclaw.agents.programs.services import restart
from metaclaw.agents.texts import read_config
from metaclaw.errors import WiringError

_USUAL = ("nanoclaw", "code/nanoclaw", ".nanoclaw")
_WORKING = re.compile(r"^WorkingDirectory=-?(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NanoClaw:
    """NanoClaw."""

    name: str = "nanoclaw"
    title: str = "NanoClaw"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        place = next((folder for folder in _places(machine) if is_there(folder)), None)
        return Found(place=place, config=place / ".env") if place else None

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        puts = (
            Put(place=("ANTHROPIC_BASE_URL",), value=connection.url),
            Put(place=("ANTHROPIC_API_KEY",), value=connection.token),
        )
        # The service's name differs from checkout to checkout.
        command = "launchctl kickstart -k" if machine.platform == "darwin" else "systemctl --user restart"
        return Plan(
            files=(FileEdit(path=_env(self.find(machine)), form=DOTENV, puts=puts),),
            notes=restart(f"{command} ITS-SERVICE"),
        )

    def endpoint(self, machine: Machine) -> str | None:
        place = self.find(machine)
        return text_at(read_config(DOTENV, _env(place)), "ANTHROPIC_BASE_URL") if place else None


def _env(place: Found | None) -> Path:
    if place is None or place.config is None:
        raise WiringError("NanoClaw is nowhere on this machine; nothing was changed")
    return place.config


def _places(machine: Machine) -> Iterator[Path]:
    units = machine.folder("XDG_CONFIG_HOME", ".config") / "systemd" / "user"
    for unit in sorted(units.glob("*nanoclaw*.service")):
        for folder in _WORKING.findall(_bytes(unit).decode(errors="replace")):
            yield Path(folder.strip().strip('"').replace("%h", str(machine.home)))
    for plist in sorted((machine.home / "Library" / "LaunchAgents").glob("*nanoclaw*.plist")):
        try:
            said = plistlib.loads(_bytes(plist)).get("WorkingDirectory")
        except (plistlib.InvalidFileException, ValueError):
            continue
        if isinstance(said, str):
            yield Path(said)
    yield from (machine.home / name for name in _USUAL)


def _bytes(path: Path) -> bytes:
    """What is in a service's file; nothing where it leads nowhere or may not be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
