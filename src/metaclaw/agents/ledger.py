"""What connecting changed, written down before it is changed.

Owns ``METACLAW_HOME/agents/<program>/``: the record and the files as they were, for the owner alone; refuses to know
how they are used. Invariant: a file of a program is written only after its record and its copy are on disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from metaclaw.agents.config_files import digest, write_private
from metaclaw.agents.documents.document import Item, Place
from metaclaw.errors import WiringError
from metaclaw.locks import LockedError, exclusive_lock

_RECORD = "wiring.json"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Stored):
    """One entry that we wrote.

    ``before`` is how it was written (none when it was not there) and ``was`` what that says; ``made`` is how many parts
    of its place were not there.
    """

    place: tuple[str | tuple[str, str | None], ...]
    wrote: Any
    before: str | None
    was: Any = None
    made: int
    is_ours: bool

    @property
    def where(self) -> Place:
        return tuple(part if isinstance(part, str) else Item(*part) for part in self.place)


class WiredFile(_Stored):
    """One file: digests of it ``before`` (none when there was no file) and ``after``, and its entries in order."""

    path: Path
    form: str
    before: str | None
    after: str
    entries: tuple[Entry, ...]
    is_ours: bool = False
    folders: tuple[Path, ...] = ()


class StoredCommand(_Stored):
    """A command that takes one back; it holds no secret."""

    argv: tuple[str, ...]
    why: str


class Wiring(_Stored):
    """What one program is connected to, and what was changed for it. ``token`` is a secret.

    ``known_as``: how the gateway's URL begins there, where that is not ``url``.
    """

    program: str
    url: str
    agent: str | None
    token: str
    connected_at: float
    files: tuple[WiredFile, ...]
    undo: tuple[StoredCommand, ...] = ()
    known_as: str | None = None


def place_as_stored(place: Place) -> tuple[str | tuple[str, str | None], ...]:
    return tuple(part if isinstance(part, str) else (part.value, part.key) for part in place)


class Ledger:
    """The records under ``home``."""

    def __init__(self, home: Path) -> None:
        self._root = home / "agents"

    @contextmanager
    def alone(self) -> Generator[None]:
        """Be the only one who connects or disconnects. Raises ``WiringError`` when somebody else does."""
        try:
            with exclusive_lock(self._root / ".lock", wait=False):
                yield
        except LockedError:
            raise WiringError(
                "another `metaclaw connect` or `disconnect` is under way (perhaps it waits for an answer); end it first"
            ) from None

    def folder(self, program: str) -> Path:
        """Where things of ours for a program are kept."""
        return self._root / program

    def programs(self) -> list[str]:
        """The names of the programs that are connected."""
        return sorted(path.parent.name for path in self._root.glob(f"*/{_RECORD}"))

    def read(self, program: str) -> Wiring | None:
        """What is recorded of a program. Raises ``WiringError`` for a record that is damaged."""
        path = self.folder(program) / _RECORD
        try:
            return Wiring.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:  # its text would show the token
            raise WiringError(f"{path} is damaged; beside it is a copy of every file as it was") from None

    def write(self, wiring: Wiring) -> None:
        write_private(self.folder(wiring.program) / _RECORD, wiring.model_dump_json(indent=1).encode())

    def keep(self, program: str, data: bytes) -> None:
        """Keep a file as it was; it is found by what was in it."""
        path = self._copy(program, digest(data))
        if not path.exists():
            write_private(path, data)

    def kept(self, program: str, name: str) -> bytes:
        """What ``keep`` was given, by its digest. Raises ``WiringError``."""
        path = self._copy(program, name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        if digest(data) != name:
            raise WiringError(f"the copy {path} is missing or damaged; nothing was changed")
        return data

    def forget(self, program: str) -> None:
        """Remove the record and the copies of a program."""
        shutil.rmtree(self.folder(program), ignore_errors=True)

    def _copy(self, program: str, name: str) -> Path:
        return self.folder(program) / "before" / name
