"""The job that tells a tracker of each update that has ended.

Owns how far it was told; refuses to know the tracker and how updates are made. Invariant: what was told is written down
after it was told: an update may be told twice after a crash, and none is left out; and a tracker that fails delays
nothing but itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from metaclaw.journal.finished_updates import finished_updates
from metaclaw.learner.tracking.tracker import Tracker, point_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How far a tracker was told. ``home`` tells this home's curves from another's at a service that has both."""

    home: str
    update: int = 0


def read_told(path: Path, *, new_home: Callable[[], str]) -> Told:
    """What ``path`` says; a new beginning where it says nothing."""
    try:
        return Told(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Told(home=new_home())
    except (ValueError, TypeError):
        _log.warning("%s cannot be read: everything is told again, under a new name", path)
        return Told(home=new_home())


def write_told(path: Path, told: Told) -> None:
    """By one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(told)), encoding="utf-8")
    beside.replace(path)


class Tracking:
    """Tells ``tracker``, which ``make`` makes when there is something to tell."""

    name = "tracking"

    def __init__(
        self, *, learning_db: Path, state: Path, make: Callable[[str], Tracker], new_home: Callable[[], str]
    ) -> None:
        self._learning_db = learning_db
        self._state = state
        self._make = make
        self._new_home = new_home
        self._tracker: Tracker | None = None

    @property
    def poll_s(self) -> float:
        return 5.0

    async def step(self) -> bool:
        return await asyncio.to_thread(self._step)

    async def close(self) -> None:
        if self._tracker is not None:
            tracker, self._tracker = self._tracker, None
            await asyncio.to_thread(tracker.close)

    def _step(self) -> bool:
        told = read_told(self._state, new_home=self._new_home)
        updates = finished_updates(self._learning_db, after=told.update)
        if not updates:
            return False
        write_told(self._state, told)  # before it is used, so that a crash does not make a second name
        tracker = self._tracker = self._tracker or self._make(told.home)
        for update in updates:
            tracker.add(point_of(update))
            write_told(self._state, replace(told, update=update.id))
        return True
