"""When the log of a database is written back into its file.

Owns a thread that does so, and its connection; refuses to know tables and who writes. Invariant: whoever writes waits
for nothing here. SQLite would have the one whose commit makes the log long write it back, and sync both files, which
takes 10 to 80 ms of a busy disk: that was a turn that waited for its block.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

# Rows, in about as many pages as SQLite would let the log have (1,000) where turns have recall, in three times as many
# where they have none.
_AFTER_CHANGES = 4000
# Pages. A log that is written to all the while cannot begin anew: then who writes does the rest of it, now and then.
_LONGEST_LOG = 16_384

_log = logging.getLogger(__name__)


class LogKeeper:
    """Of the database at ``path``, for the one connection that writes to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changes = 0  # of the connection, when the log was written back last
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="log-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, once what runs is done."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def relieve(self, connection: sqlite3.Connection) -> None:
        """Take the work from a new connection that writes."""
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG}")
        self._changes = 0

    def committed(self, connection: sqlite3.Connection) -> None:
        """Something was committed on ``connection``. Costs next to nothing."""
        changes = connection.total_changes
        if changes - self._changes >= _AFTER_CHANGES:
            self._changes = changes
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._is_stopping:
                return
            try:
                write_back(self._path)
            except sqlite3.Error as error:  # the next time, or whoever writes, in the end
                _log.warning("the log of %s could not be written back: %s", self._path, error)


def write_back(path: Path) -> None:
    """Write what is in the log of the database at ``path`` into its file, as far as nobody still reads what was."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=0.0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
