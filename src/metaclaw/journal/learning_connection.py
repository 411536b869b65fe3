"""The one writing connection to ``learning.db``.

Owns opening it and the lock around it; refuses to know tables. Invariant: whatever is written through it is one
transaction, and SQLite's faults leave it as a ``JournalError``.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer, transaction

Clock = Callable[[], float]


class LearningConnection:
    """Every public method of what is built on it is one transaction and raises ``JournalError`` where that fails; any
    thread may call it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock = time.time) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, clock: Clock = time.time) -> Self:
        """Open ``learning.db``, creating and migrating it as needed; raises ``JournalError``."""
        return cls(open_writer(path, "learning"), clock)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection]:
        with self._lock, _explained("read"):
            yield self._connection

    @contextmanager
    def _write(self) -> Generator[sqlite3.Connection]:
        with self._lock, _explained("written"), transaction(self._connection):
            yield self._connection


@contextmanager
def _explained(how: str) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"learning.db cannot be {how}: {error}") from error
