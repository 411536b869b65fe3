"""``server.db`` and the one thread that touches it.

Owns the connection, its settings and the schema; refuses to know the tables' meaning. Invariant: the event loop
never waits for the disk, each call is one transaction, and a file from a newer release is refused, never changed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from metaclaw.errors import EngineError, NotFoundError

T = TypeVar("T")
Values = tuple[Any, ...]

# What takes a file from one schema to the next; the number of steps is the schema that we know.
_STEPS = ("registry.sql", "tenants.sql", "external.sql")


class Database:
    """One connection, used on one thread."""

    def __init__(self, connection: sqlite3.Connection, executor: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._executor = executor

    async def write(self, statement: str, values: Values) -> None:
        await self._run(lambda: self._connection.execute(statement, values))

    async def all(self, query: str, values: Values = ()) -> list[sqlite3.Row]:
        return await self._run(lambda: self._connection.execute(query, values).fetchall())

    async def one(self, query: str, values: Values, what: str) -> sqlite3.Row:
        """The first row, or ``NotFoundError`` about ``what``."""
        rows = await self.all(query, values)
        if not rows:
            raise NotFoundError(f"{what} does not exist on this server")
        return rows[0]

    async def close(self) -> None:
        await self._run(self._connection.close)

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


@asynccontextmanager
async def open_database(path: Path) -> AsyncGenerator[Database]:
    """The database in ``path``, created as needed. Raises ``EngineError`` with the path and the reason."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="registry") as executor:
        connection = await asyncio.get_running_loop().run_in_executor(executor, connect, path)
        database = Database(connection, executor)
        try:
            yield database
        finally:
            await database.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the database in ``path``, created and migrated as needed; raises as ``open_database``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _set_up(connection, path)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise EngineError(f"cannot open the registry {path}: {error}. Nothing in it was changed.") from error
    return connection


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    path.chmod(0o600)
    connection.row_factory = sqlite3.Row
    for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    if _schema(connection) == len(_STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")  # the server and `metaclaw keys` may both be the first
    try:
        current = _schema(connection)
        if current > len(_STEPS):
            raise EngineError(f"the registry has schema {current}, from a newer MetaClaw; this one knows {len(_STEPS)}")
        for step in _STEPS[current:]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_STEPS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _schema(connection: sqlite3.Connection) -> int:
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    return current


def _statements(name: str) -> list[str]:
    # One by one: executescript would commit the transaction that holds them together.
    script = resources.files("metaclaw.training.api").joinpath(name).read_text(encoding="utf-8")
    lines = [line for line in script.splitlines() if not line.lstrip().startswith("--")]
    return [statement for statement in "\n".join(lines).split(";") if statement.strip()]
