"""A disk that is full: SQLite itself refuses to let a database grow."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

LONG = "m" * 20_000  # a text that does not fit into what is left of a page


class Disk:
    """How much the database of one connection may grow."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("CREATE TABLE IF NOT EXISTS rest (id INTEGER PRIMARY KEY, bytes BLOB) STRICT")

    def fill(self) -> None:
        """Let nothing in any more that needs another page, and use up those that are free."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self._connection.execute(f"PRAGMA max_page_count = {pages}")
        for size in (4000, 400, 40, 4):
            with suppress(sqlite3.OperationalError):
                while True:
                    self._connection.execute("INSERT INTO rest (bytes) VALUES (zeroblob(?))", (size,))

    def free(self) -> None:
        self._connection.execute("PRAGMA max_page_count = 1000000")
