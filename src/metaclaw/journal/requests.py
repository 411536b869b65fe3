"""``requests.db``: what commands ask the learner to do.

Owns the rows; refuses to know how anything is done. Invariant: a request is answered once, and one that nobody answers
waits; a command never writes what the learner owns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``outcome`` is a sentence, ``None`` as long as the request waits."""

    id: int
    kind: str
    agent: str
    subject: str
    asked_at: float
    done_at: float | None
    outcome: str | None


class RequestStore:
    """On a connection of one's own. One thread at a time may use it. Every method may raise ``JournalError``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row

    @classmethod
    def open(cls, path: Path) -> RequestStore:
        """Open ``path``, making it as needed."""
        return cls(open_writer(path, "requests"))

    def close(self) -> None:
        self._connection.close()

    def ask(self, kind: str, *, agent: str, subject: str, now: float) -> int:
        """Write a request down; return its number."""
        with self._errors(), transaction(self._connection):
            number = self._connection.execute(
                "INSERT INTO requests (kind, agent, subject, asked_at) VALUES (?, ?, ?, ?)",
                (kind, agent, subject, now),
            ).lastrowid
        assert number is not None
        return number

    def waiting(self) -> list[Request]:
        """What nobody has answered yet, oldest first."""
        with self._errors():
            rows = self._connection.execute("SELECT * FROM requests WHERE done_at IS NULL ORDER BY id").fetchall()
        return [Request(**dict(row)) for row in rows]

    def request(self, number: int) -> Request | None:
        """One request by its number."""
        with self._errors():
            row = self._connection.execute("SELECT * FROM requests WHERE id = ?", (number,)).fetchone()
        return None if row is None else Request(**dict(row))

    def answer(self, number: int, outcome: str, now: float) -> None:
        """Say what became of a request; only the first answer counts."""
        with self._errors(), transaction(self._connection):
            self._connection.execute(
                "UPDATE requests SET done_at = ?, outcome = ? WHERE id = ? AND done_at IS NULL", (now, outcome, number)
            )

    def remove(self, kind: str, *, up_to: int | None = None, before: float | None = None) -> None:
        """Remove what is of ``kind``, up to this number, or asked for before this moment."""
        with self._errors(), transaction(self._connection):
            self._connection.execute(
                "DELETE FROM requests WHERE kind = ?1 AND (id <= ?2 OR asked_at < ?3)", (kind, up_to, before)
            )

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(f"requests.db cannot be used: {error}") from error
