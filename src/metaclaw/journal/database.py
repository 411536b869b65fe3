"""Opening and migrating the journal's SQLite files.

Owns connection settings and the numbered migrations; refuses to know what the tables mean. Invariant: a file is
never reset, renamed or rewritten because it could not be read; a database from a newer release is refused.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from metaclaw.errors import JournalError, MetaClawError
from metaclaw.locks import LockedError
from metaclaw.private_folders import make_private

BUSY_TIMEOUT_MS = 10_000
_OF_THE_MOMENT = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
)
_OF_THE_FILE = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)


def open_writer(path: Path, schema: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> sqlite3.Connection:
    """Open ``path`` for its one writing process, creating and migrating it as needed.

    ``schema`` names the migration files (``turns`` or ``learning``). Raises ``JournalError`` with the path and
    the reason; whatever was in the file stays in it.
    """
    try:
        make_private(path.parent)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _set_up(connection, path, schema, busy_timeout_ms)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"cannot open the journal {path}: {error}. Nothing in it was changed.") from error
    return connection


def _set_up(connection: sqlite3.Connection, path: Path, schema: str, busy_timeout_ms: int) -> None:
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(FileNotFoundError):  # those of before, or of a copy that others may read
            file.chmod(0o600)
    connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL keeps every commit through the death of a process; FULL would also keep the last ones
    # through a power cut, at an fsync per turn.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    _migrate(connection, schema)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open an existing ``path`` read-only. Raises ``JournalError`` when it is missing or unreadable."""
    try:
        return _reader(path, "mode=ro")
    except sqlite3.Error as error:
        if not path.exists():
            raise JournalError(f"there is no journal at {path}") from error
        if _code(error) != sqlite3.SQLITE_CANTOPEN or os.access(path.parent, os.W_OK):
            raise JournalError(f"cannot read the journal {path}: {error}") from error
    # SQLite makes a file beside a database even to read it, unless nobody can write there.
    log = path.with_name(path.name + "-wal")
    try:
        if log.exists() and log.stat().st_size:
            raise JournalError(
                f"cannot read the journal {path}: its newest rows are in {log.name}, which cannot be read where nothing"
                " can be written; copy the home to a disk that can be written, and set METACLAW_HOME to the copy"
            )
        return _reader(path, "immutable=1")
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"cannot read the journal {path}: {error}") from error


def _reader(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?{how}", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    """An existing ``path``, read-only and not for long. What fails in between is a ``JournalError`` too, which says so
    where a newer release wrote the file: it may have other tables."""
    with closing(open_reader(path)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise JournalError(f"cannot read the journal {path}: {error}{_newer(connection, path.stem)}") from error


def refuse_older(connection: sqlite3.Connection, path: Path, *, schema: int) -> bool:
    """Whether the database at ``path`` has tables. Raises ``JournalError`` where they are older than ``schema``: as an
    empty file it would tell its owner that nothing was learned."""
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    if 0 < current < schema:
        writer = "learner" if path.stem == "learning" else "gateway"
        raise JournalError(f"{path} is of an older release; the {writer} brings it up to date when MetaClaw starts")
    return current > 0


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """A short write transaction: all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back when the disk is full
            connection.execute("ROLLBACK")
        raise


def is_of_the_record(error: sqlite3.Error) -> bool:
    """Whether ``error`` says that this row cannot be written, rather than that nothing can be written now."""
    return _code(error) not in (*_OF_THE_MOMENT, *_OF_THE_FILE)


def may_pass(error: sqlite3.Error) -> bool:
    """Whether ``error`` is of the moment (a lock, a full disk) and the file itself may be all right."""
    return _code(error) in _OF_THE_MOMENT


def may_pass_by_itself(error: MetaClawError) -> bool:
    """Whether ``error`` tells of one that ``may_pass``, or of a lock that is held, so that nobody need do anything."""
    cause = error.__cause__
    return isinstance(cause, LockedError) or (isinstance(cause, sqlite3.Error) and may_pass(cause))


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what extended codes add


def _migrate(connection: sqlite3.Connection, schema: str) -> None:
    files = _migrations(schema)
    with transaction(connection):
        (current,) = connection.execute("PRAGMA user_version").fetchone()
        if newer := _newer(connection, schema):
            raise JournalError(newer.removeprefix("; "))
        for number, file in files:
            if number > current:
                for statement in _statements(file.read_text(encoding="utf-8")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")


def _migrations(schema: str) -> list[tuple[int, Traversable]]:
    return sorted(
        (
            (int(match[1]), entry)
            for entry in resources.files("metaclaw.journal").joinpath("migrations").iterdir()
            if (match := re.fullmatch(rf"{schema}_(\d{{4}})\.sql", entry.name))
        ),
        key=lambda one: one[0],
    )


def _newer(connection: sqlite3.Connection, schema: str) -> str:
    """What to say where a newer release wrote the file; else nothing."""
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    known = max((number for number, _ in _migrations(schema)), default=current)
    if current <= known:
        return ""
    return f"; it has schema {current}, written by a newer MetaClaw; this release knows {known}: upgrade MetaClaw"


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit the surrounding transaction, and half a migration must never stay.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
