"""Where a program is on a machine.

Owns the two signs of one: that it can be started, or that it left its folder; refuses to know which programs there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from metaclaw.agents.config_files import is_there
from metaclaw.agents.program import Found, Machine


def found(machine: Machine, names: Sequence[str], config: Path, *, folder: Path | None = None) -> Found | None:
    """By the first of ``names`` that can be started, else by ``folder`` (that of ``config``)."""
    place = next((path for path in map(machine.which, names) if path), None)
    left = folder or config.parent
    if place is None and not is_there(left):
        return None
    return Found(place=place or left, config=config)


def first_there(*paths: Path) -> Path:
    """The first of these files that exists; the first when none does."""
    return next((path for path in paths if is_there(path)), paths[0])


def text_at(data: Any, *keys: str) -> str | None:
    """The text under these keys; ``None`` when there is none."""
    for key in keys:
        data = cast("dict[str, Any]", data).get(key) if isinstance(data, dict) else None
    return data if isinstance(data, str) else None
