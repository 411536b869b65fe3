"""Old turns given up beside the running gateway, by the retention that is in force.

Owns the task; refuses to know what is given up. Invariant: there is one task at most, and a retention that changed is
gone by at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from metaclaw.config import Settings
from metaclaw.journal.retention import Retention, keep_pruned
from metaclaw.journal.turns import TurnJournal


class Pruning:
    """Runs on the event loop that it is made on, until it is closed."""

    def __init__(self, journal: TurnJournal, settings: Settings, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._learning_db: Path = settings.learning_db
        self._clock = clock
        self._retention = _retention(settings)
        self._task = self._begun()

    def adopt(self, settings: Settings) -> None:
        """Go by what these settings say is kept."""
        wanted = _retention(settings)
        if wanted != self._retention:
            self.close()
            self._retention = wanted
            self._task = self._begun()

    def close(self) -> None:
        self._task.cancel()

    def _begun(self) -> asyncio.Task[None]:
        return asyncio.create_task(keep_pruned(self._journal, self._learning_db, self._retention, self._clock))


def _retention(settings: Settings) -> Retention:
    kept = settings.journal
    own = settings.agents.max_age_days_of
    return Retention(max_age_days=kept.max_age_days, max_size_mb=kept.max_size_mb, max_age_days_of=own)
