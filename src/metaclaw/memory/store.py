"""``memory.db``: what is remembered.

Owns the transactions; refuses to know what is worth remembering and what is shown to a model. Invariants: one thing is
remembered once; what contradicts an older statement ends it and never erases it; what is forgotten leaves no word of
itself and is not learned again from the same turns; and no secret is kept, whoever writes it.

Any process may write: each method is one short transaction. One thread at a time may use a store.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from metaclaw.errors import InvalidRequestError, JournalError, NotFoundError
from metaclaw.journal.database import open_reader, open_writer, transaction
from metaclaw.memory.consolidation import settle
from metaclaw.memory.query import ByMeaning, Description, Found, MemoryQuery
from metaclaw.memory.rows import COLUMNS, unit_of, with_turns
from metaclaw.memory.search import search
from metaclaw.memory.secrets import holds_secret
from metaclaw.memory.standing import as_if_none, standing
from metaclaw.memory.unindexed_words import UnindexedWords
from metaclaw.memory.units import MemoryUnit
from metaclaw.memory.visibility import visible
from metaclaw.memory.word_index import WordIndex, is_index_whole, note_index_of_nothing

SCHEMA = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """An exchange that was read: what was found in it, and what was left out, by the rule that left it out.

    ``used`` are the units that were recalled for it.
    """

    exchange: str
    agent: str
    session: str
    turns: tuple[str, ...]
    units: tuple[MemoryUnit, ...] = ()
    used: tuple[str, ...] = ()
    detail: Mapping[str, int] = field(default_factory=dict[str, int])


class MemoryStore:
    """On a connection of one's own. Every method may raise ``JournalError``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._index = WordIndex(connection)

    @classmethod
    def open(cls, path: Path) -> MemoryStore:
        """Open ``path`` for reading and writing, making it if there is none. A broken file stays as it is."""
        with told(f"open {path} for"):
            connection = open_writer(path, SCHEMA)
            connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is gone from the file
            if not is_index_whole(connection):
                note_index_of_nothing(connection)
            return cls(connection)

    @classmethod
    def open_to_look(cls, path: Path) -> MemoryStore:
        """Open ``path`` for reading, making it if there is none; also on a disk that cannot be written."""
        return cls.open_reader(path) if path.exists() and not os.access(path, os.W_OK) else cls.open(path)

    @classmethod
    def open_reader(cls, path: Path) -> MemoryStore:
        """Open an existing ``path`` for reading only."""
        with told(f"read {path} for"):
            connection = open_reader(path)
            as_if_none(connection)
            return cls(connection)

    def is_made(self) -> bool:
        """Whether there are tables: a file is there a moment before them."""
        with told("read"):
            return self._connection.execute("PRAGMA user_version").fetchone()[0] > 0

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> MemoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """For the other modules of this room."""
        return self._connection

    @contextmanager
    def writing(self, what: str) -> Generator[None]:
        """A short transaction, for the modules of this room."""
        with told(what), transaction(self._connection):
            yield

    def add(self, units: Sequence[MemoryUnit], *, now: float) -> list[str]:
        """Remember ``units``; return the id under which each is kept, "" for what was forgotten before.

        What is known already keeps its id and gains the turns; what contradicts an older unit ends that one.
        Raises ``InvalidRequestError`` for what holds a secret, and then nothing is kept.
        """
        _refuse_secrets(units)
        with self.writing("add to"):
            return [settle(self._index, unit, now) for unit in units]

    def record(self, extraction: Extraction, *, now: float) -> list[str]:
        """Remember what an exchange held and used, and that it was read: all or nothing, and an exchange once.

        Returns as ``add`` does, and nothing for an exchange that was read before.
        """
        with self.writing("add to"):
            self._connection.execute("DELETE FROM buffered WHERE id = ?", (extraction.exchange,))
            is_new = self._connection.execute(
                "INSERT OR IGNORE INTO extracted VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    extraction.exchange, extraction.agent, extraction.session, json.dumps(extraction.turns),
                    len(extraction.units), json.dumps(extraction.detail), now,
                ),
            ).rowcount  # fmt: skip
            if not is_new:
                return []
            self._connection.execute(
                "INSERT INTO uses SELECT id, 1, ?1 FROM units WHERE id IN (SELECT value FROM json_each(?2))"
                " ON CONFLICT (unit) DO UPDATE SET number = number + 1, last_at = max(last_at, excluded.last_at)",
                (now, json.dumps(extraction.used)),
            )
            return [settle(self._index, unit, now) for unit in extraction.units]

    def was_read(self, exchanges: Sequence[str]) -> frozenset[str]:
        """Those of ``exchanges`` that were read for memories."""
        with told("read"):
            rows = self._connection.execute(
                "SELECT exchange FROM extracted WHERE exchange IN (SELECT value FROM json_each(?))",
                (json.dumps(list(exchanges)),),
            )
            return frozenset(exchange for (exchange,) in rows.fetchall())

    def has_gap(self, agent: str, session: str) -> bool:
        """Whether something was forgotten that was said in a session."""
        with told("read"):
            row = self._connection.execute(
                "SELECT 1 FROM extracted, json_each(extracted.turns) AS turn WHERE extracted.agent = ?1"
                " AND extracted.session = ?2 AND turn.value IN"
                " (SELECT said.value FROM forgotten, json_each(forgotten.turns) AS said) LIMIT 1",
                (agent, session),
            ).fetchone()
            return row is not None

    def get(self, ids: Iterable[str]) -> list[MemoryUnit]:
        """Those of ``ids`` that there are, whether or not they still hold."""
        query = f"SELECT {COLUMNS} FROM units WHERE units.id IN (SELECT value FROM json_each(?)) ORDER BY units.seq"
        return self._units(query, (json.dumps(list(ids)),))

    def search(self, query: MemoryQuery, meaning: ByMeaning | None = None) -> list[Found]:
        """What fits a question, by its words and by its ``meaning``, and may be told to whoever asks."""
        with told("search"), _moment(self._connection):
            # Until the index is made anew after an update, units that are not in it yet are looked at themselves.
            is_whole = is_index_whole(self._connection)
            found = search(self._index if is_whole else UnindexedWords(self._index, query.text), query, meaning)
            if query.num_standing:
                found += standing(self._connection, query, without={one.unit.id for one in found})
            return found

    def latest(
        self, agent: str | None = None, *, limit: int = 50, with_history: bool = False, of: Description | None = None
    ) -> list[MemoryUnit]:
        """The newest units, of one agent or of all, as ``of`` describes them."""
        held = "" if with_history else " AND units.superseded_by IS NULL"
        condition, values, order = (of or Description()).condition()
        query = f"SELECT {COLUMNS} FROM units WHERE (?1 IS NULL OR units.agent = ?1){held}{condition}"
        return self._units(
            f"{query} ORDER BY units.said_at {order}, units.seq {order} LIMIT ?2", (agent, limit, *values)
        )

    def newest(self, query: MemoryQuery) -> list[MemoryUnit]:
        """The newest of what ``query`` may see, whatever its text."""
        condition, values = visible(query)
        rows = f"SELECT {COLUMNS} FROM units WHERE {condition} ORDER BY units.said_at DESC, units.seq DESC LIMIT ?"
        return self._units(rows, (*values, query.limit))

    def after(self, unit: str | None, *, limit: int = 500, agent: str | None = None) -> list[MemoryUnit]:
        """All units in the order of their coming, page by page: those that came after ``unit``."""
        query = (
            f"SELECT {COLUMNS} FROM units WHERE units.seq > coalesce((SELECT seq FROM units WHERE id = ?1), 0)"
            " AND (?2 IS NULL OR units.agent = ?2) ORDER BY units.seq LIMIT ?3"
        )
        return self._units(query, (unit, agent, limit))

    def edit(self, unit: MemoryUnit, *, now: float) -> str:
        """Put ``unit`` in the place of the one that has its id, which becomes history; return the new id.

        Raises ``InvalidRequestError`` when it holds a secret.
        """
        _refuse_secrets([unit])
        with self.writing("edit"):
            old = self._connection.execute(
                "SELECT seq FROM units WHERE id = ? AND superseded_by IS NULL", (unit.id,)
            ).fetchone()
            if old is None:
                raise NotFoundError(f"there is no memory {unit.id} that holds; `metaclaw memory list` shows them")
            fresh = f"{unit.id.partition('~')[0]}~{int(now * 1000):x}"
            self._connection.execute("UPDATE units SET superseded_by = ? WHERE id = ?", (fresh, unit.id))
            return settle(self._index, replace(unit, id=fresh, superseded_by=None), now)

    def stats(self, agent: str | None = None) -> dict[str, int]:
        """How many units hold, by kind, how many are history, and how many were forgotten."""
        with told("count"):
            rows = self._connection.execute(
                "SELECT kind, superseded_by IS NOT NULL, count(*) FROM units WHERE ?1 IS NULL OR agent = ?1"
                " GROUP BY 1, 2",
                (agent,),
            ).fetchall()
            (forgotten,) = self._connection.execute(
                "SELECT count(*) FROM forgotten WHERE ?1 IS NULL OR agent = ?1", (agent,)
            ).fetchone()
        counts = Counter[str](forgotten=forgotten)
        for kind, is_history, number in rows:
            counts["history" if is_history else kind] += number
            counts["units"] += 0 if is_history else number
        return dict(counts)

    def _units(self, query: str, values: Sequence[object]) -> list[MemoryUnit]:
        with told("read"):
            rows = self._connection.execute(query, values).fetchall()
            return with_turns(self._connection, map(unit_of, rows))


def _refuse_secrets(units: Iterable[MemoryUnit]) -> None:
    if any(holds_secret(unit.text) for unit in units):
        raise InvalidRequestError(
            "this speaks of a password, a key, a card or an account, and memories are put before models:"
            " leave that out",
            param="text",
        )


@contextmanager
def _moment(connection: sqlite3.Connection) -> Generator[None]:
    """All that is read is of one moment, whoever writes meanwhile; and it is read without locking for each question."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


@contextmanager
def told(what: str) -> Generator[None]:
    """Errors of SQLite as ``JournalError``, saying what could not be done."""
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"cannot {what} the memory: {error}. Nothing in it was changed.") from error
