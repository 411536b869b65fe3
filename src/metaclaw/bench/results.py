"""What came of a run, in files.

Owns their shape; refuses to know what is made of them. Invariant: a day's file is there when all of the day was played,
and not before, so that a run which broke off goes on with the day that it had not finished.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from metaclaw.errors import ConfigError
from metaclaw.locks import LockedError, exclusive_lock

R = TypeVar("R", bound="_Record")

_RUN = "run.json"
_LOCK = ".lock"
_OF_A_BEGINNING = (_LOCK, f"{_RUN}.part")
_DAY_END = ".day.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Record):
    """What was played, as whom. Two parts of one run differ in nothing of it: ``digest`` is the dataset's."""

    dataset: str
    digest: str = ""
    agent: str
    model: str
    is_frozen: bool
    max_turns: int


class Played(_Record):
    """One round. ``score`` is from 0 to 1, ``None`` where nobody could say (``said`` says why).

    ``by_choosing_all`` is what the naming of every option would have scored. ``is_idle`` says that a check passed
    before anything was done for it, so that its passing says nothing.
    """

    round: str
    type: Literal["file_check", "multi_choice"]
    score: float | None
    said: str = ""
    answer: str = ""
    turn: str = ""
    by_choosing_all: float = 0.0
    is_idle: bool = False
    is_cut: bool = False
    turns: int = 0
    tool_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether the score says something of the agent."""
        return self.score is not None and not self.is_idle


class PlayedDay(_Record):
    """One day, its rounds in order."""

    day: str
    session: str
    rounds: tuple[Played, ...]


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Hold ``folder`` for one run at a time: two would play each day twice, as one agent. Raises ``ConfigError``."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive_lock(folder / _LOCK, wait=False):
            yield
    except LockedError as error:
        raise ConfigError(f"another `metaclaw bench run` plays in {folder}") from error


def begin_run(folder: Path, run: Run) -> None:
    """Make ``folder``, or go on in it. Raises ``ConfigError`` where another run lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _RUN
    if path.exists():
        if (there := read_run(folder)) != run:
            before, now = there.model_dump(), run.model_dump()
            differing = [key for key in now if before[key] != now[key]]
            if differing == ["digest"]:
                raise ConfigError(f"the dataset is not what it was when the run in {folder} began: name another folder")
            other = ", ".join(f"{key} {before[key]!r} (now {now[key]!r})" for key in differing if key != "digest")
            raise ConfigError(f"another run lies in {folder}, with {other}: name another folder")
    elif any(one.name not in _OF_A_BEGINNING for one in folder.iterdir()):
        raise ConfigError(f"{folder} is not empty, and no run lies there: name another folder")
    else:
        _write(path, run.model_dump())


def keep_day(folder: Path, played: PlayedDay) -> None:
    """Keep a day that was played to its end."""
    _write(folder / f"{played.day}{_DAY_END}", played.model_dump())


def read_run(folder: Path) -> Run:
    """What was played in ``folder``. Raises ``ConfigError``."""
    if not (folder / _RUN).is_file():
        raise ConfigError(f"no run lies in {folder}: `metaclaw bench run` makes one")
    return _read(folder / _RUN, Run)


def read_days(folder: Path) -> dict[str, PlayedDay]:
    """The days that were played, by name. Raises ``ConfigError``."""
    days = [_read(path, PlayedDay) for path in sorted(folder.glob(f"*{_DAY_END}"))]
    return {one.day: one for one in days}


def remaining(names: Sequence[str], folder: Path) -> list[str]:
    """Of ``names``, the days that have yet to be played."""
    played = read_days(folder)
    return [name for name in names if name not in played]


def _read(path: Path, shape: type[R]) -> R:
    try:
        return shape.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path} is not what this version writes: {error.errors()[0]['msg']}") from error


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(path)
