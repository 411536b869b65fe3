"""How long ago somebody asked the agent something, as the turn journal shows.

Owns one query's meaning; refuses to know what silence is good for. Invariant: an answer that is still being given is
no silence, and what programs do by themselves (side turns: heartbeats, summaries) is.
"""

from __future__ import annotations

import math
from pathlib import Path

from metaclaw.journal.turn_reader import TurnReader
from metaclaw.journal.turn_records import Activity


class Presence:
    """Reads ``turns.db``. One thread at a time may use it."""

    def __init__(self, turns_db: Path) -> None:
        self._path = turns_db
        self._reader: TurnReader | None = None
        self._seen: tuple[Activity, float] | None = None  # the last one, and when it was over at the latest

    def quiet_s(self, now: float) -> float:
        """Seconds since the last main turn; infinite when there is none. Raises ``JournalError``."""
        if self._reader is None:
            if not self._path.exists():
                return math.inf
            self._reader = TurnReader.open(self._path)
        last = self._reader.last_main_activity(now)
        if last is None:
            return math.inf
        if last.is_open:
            return 0.0
        # Recorded in the future is what the clock was set back after: it was seen by then at the latest.
        seen_at = self._seen[1] if self._seen is not None and self._seen[0] == last else last.at
        self._seen = last, min(seen_at, now)
        return now - self._seen[1]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
