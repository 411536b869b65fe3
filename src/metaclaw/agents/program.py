"""What an agent program is to us: where it is, and what must be in its files for it to ask our gateway.

Owns the words between the programs' modules and the wiring; refuses to write anything. Invariant: a plan names single
entries, so that whatever else is in a file is none of our business.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from metaclaw.agents.documents.document import Format, Place

OURS = "metaclaw"  # what our entries, and the model that they name, are called everywhere
_ASK_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Whose programs these are: a home folder, variables, where programs are looked for."""

    home: Path
    env: Mapping[str, str]
    platform: str = "linux"

    def which(self, name: str) -> Path | None:
        """The program called ``name``, if it can be started."""
        found = shutil.which(name, path=self.env.get("PATH", ""))
        return Path(found) if found else None

    def ask(self, *argv: str) -> str | None:
        """What a program says, which changes nothing; ``None`` when it fails."""
        try:
            done = subprocess.run(
                argv,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_ASK_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def folder(self, variable: str, default: str) -> Path:
        """The folder that a variable names, else ``default`` in the home folder."""
        return self.named(variable) or self.home / default

    def named(self, variable: str) -> Path | None:
        """The file or folder that a variable names; ``~`` is the home folder."""
        given = self.env.get(variable)
        if not given:
            return None
        return self.home / given[2:] if given.startswith("~/") else Path(given).absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A gateway as a program is pointed at it. ``url`` is without ``/v1``; ``agent`` is whom the token stands for.

    The plugins are folders of ours that a program which takes plugins is to load; ``None`` leaves one out.
    """

    url: str
    token: str
    agent: str | None
    context_tokens: int
    plugin: Path | None = None
    memory_plugin: Path | None = None

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a program is: what it is started by, or the folder that it left. ``config`` is the file we would edit."""

    place: Path
    config: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """One entry: what is at ``place`` becomes ``value``. ``is_ours``: nobody else's entry has that name."""

    place: Place
    value: Any
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEdit:
    """The entries of one file. ``is_ours``: nobody else has a file of that name, so what we made of it goes whole."""

    path: Path
    form: Format
    puts: tuple[Put, ...]
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the program's own. What is secret travels in ``env``, never in ``argv``."""

    argv: tuple[str, ...]
    why: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What connecting means: entries, then commands; ``undo`` are the commands that take those back.

    ``known_as``: how the gateway's URL begins for a program that knows this machine by another name.
    """

    files: tuple[FileEdit, ...] = ()
    commands: tuple[Command, ...] = ()
    undo: tuple[Command, ...] = ()
    notes: tuple[str, ...] = ()
    known_as: str | None = None


class AgentProgram(Protocol):
    """One agent program. ``serves_many``: it has several agents and says which one asks."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def serves_many(self) -> bool: ...

    def find(self, machine: Machine) -> Found | None:
        """Where it is; ``None`` when it is not on this machine."""
        ...

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        """What must be in its files. Reads them as needed. Raises ``WiringError``."""
        ...

    def endpoint(self, machine: Machine) -> str | None:
        """The URL that it is configured to ask now; ``None`` when that is its own choice."""
        ...
