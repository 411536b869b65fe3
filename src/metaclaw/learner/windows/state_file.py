"""``scheduler_state.json``: what training windows look like from outside the learner.

Owns the file; refuses to know how anything in it was decided. Invariant: a reader finds one whole state or none, and
what is found of a learner that has ended says so.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from metaclaw.learner.windows.conditions import Verdict
from metaclaw.learner.windows.machine import State


class WindowState(BaseModel):
    """``since`` is when this state began; ``agent`` whose update runs; ``pid`` the learner's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State
    since: float
    why: str
    agent: str | None = None
    is_asked: bool = False
    pid: int
    verdict: Verdict | None = None


def write_state(path: Path, state: WindowState) -> None:
    """Put ``state`` in the place of what was there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(state.model_dump_json())
    temporary.chmod(0o600)
    temporary.replace(path)


def read_state(path: Path) -> WindowState | None:
    """What was written last; ``None`` when there is nothing, or nothing of this release."""
    try:
        return WindowState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
