"""What reading exchanges for memories took.

Owns the table ``extraction_calls`` of ``learning.db``; refuses to know what was read and found. Invariant: an answer is
written down once, and what is unknown of it stays unknown.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.database import open_writer, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionCall:
    """One answer of a model. ``None`` is unknown."""

    agent: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


class ExtractionBook:
    """A connection of its own, for the learner's process alone. Any thread may use it."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float] = time.time) -> ExtractionBook:
        """Open ``learning.db``; raises ``JournalError``."""
        return cls(open_writer(path, "learning"), clock)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def record(self, call: ExtractionCall) -> None:
        """Write down what one answer took."""
        with self._lock, transaction(self._connection):
            self._connection.execute(
                "INSERT INTO extraction_calls (agent, prompt_tokens, completion_tokens, cost_usd, called_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (call.agent, call.prompt_tokens, call.completion_tokens, call.cost_usd, self._clock()),
            )
