"""Which policy versions serve, as ``learning.db`` says.

Owns this one question of the gateway; refuses to write. Invariant: a file that is missing or not yet migrated means
that the base model serves, and a version is answered only with the weights that its own row names.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_reader

BASE_VERSION = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What new sessions of an agent get: ``version``, and ``share`` of them ``canary``."""

    agent: str
    version: int
    canary: int | None = None
    share: float = 0.0

    def for_session(self, session: str) -> int:
        """The version of a new session: the same whenever it is asked, and nobody's choice."""
        if self.canary is None:
            return self.version
        drawn = hashlib.sha256(f"{self.agent}\0{session}\0{self.canary}".encode(errors="surrogatepass")).digest()
        return self.canary if int.from_bytes(drawn[:8]) < self.share * 2**64 else self.version


class ServingReader:
    """Asks on a thread of its own, so that a busy file never holds up the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="serving-reader")

    async def serving_version(self, agent: str) -> int:
        """The version that new sessions of ``agent`` get; 0 is the base model. Raises ``JournalError``."""
        row = await self._first("SELECT version FROM serving WHERE agent = ?", (agent,))
        return BASE_VERSION if row is None else row[0]

    async def serving(self, agent: str) -> Serving:
        """What new sessions of ``agent`` get. Raises ``JournalError``."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._serving, agent)

    async def sampler_path(self, agent: str, version: int) -> str | None:
        """The weights of a version; ``None`` when there is no such version (any more)."""
        row = await self._first("SELECT sampler_path FROM versions WHERE agent = ? AND version = ?", (agent, version))
        return None if row is None else row[0]

    def close(self) -> None:
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _serving(self, agent: str) -> Serving:
        serving = self._query("SELECT version FROM serving WHERE agent = ?", (agent,))
        version = BASE_VERSION if serving is None else serving[0]
        tried = self._query("SELECT version, share FROM canaries WHERE agent = ?", (agent,))
        if tried is None:
            return Serving(agent=agent, version=version)
        return Serving(agent=agent, version=version, canary=tried[0], share=tried[1])

    async def _first(self, query: str, parameters: tuple[object, ...]) -> tuple[Any, ...] | None:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._query, query, parameters)

    def _query(self, query: str, parameters: tuple[object, ...]) -> tuple[Any, ...] | None:
        if self._connection is None:
            if not self._path.exists():
                return None
            self._connection = open_reader(self._path)
        try:
            return self._connection.execute(query, parameters).fetchone()
        except sqlite3.Error as error:
            if "no such table" in str(error):  # the learner is about to create them
                return None
            raise JournalError(f"cannot read {self._path}: {error}") from error
