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

_SCHEMA = 1


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
        connection = await asyncio.get_running_loop().run_in_executor(executor, _connect, path)
        database = Database(connection, executor)
        try:
            yield database
        finally:
            await database.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        connection.row_factory = sqlite3.Row
        for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        _migrate(connection)
    except (sqlite3.Error, OSError) as error:
        raise EngineError(f"cannot open the registry {path}: {error}. Nothing in it was changed.") from error
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    if current > _SCHEMA:
        raise EngineError(f"the registry has schema {current}, from a newer MetaClaw; this one knows {_SCHEMA}")
    if current == 0:
        script = resources.files("metaclaw.training.api").joinpath("registry.sql").read_text(encoding="utf-8")
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {_SCHEMA}; COMMIT")
