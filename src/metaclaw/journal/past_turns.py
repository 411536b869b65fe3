"""Turns of the past by what they asked.

Owns the one question that the gateway asks about header-less sessions that it does not remember; refuses to write and
to know what a session is. Invariant: it is asked on a thread of its own, with a bound on what is read.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from metaclaw.chat.messages import JsonObject, chain_hashes, freeze, text_of
from metaclaw.errors import JournalError
from metaclaw.journal.database import open_reader

_ASKED = """
    SELECT t.session, a.body, t.other_answers, h.begun, t.finish_reason IS NULL, NOT EXISTS (
        SELECT 1 FROM turns AS n
        WHERE n.agent = t.agent AND n.session = t.session AND n.seq > t.seq AND n.kind = 'main'
    )
    FROM (
        SELECT :head AS head, NULL AS begun UNION ALL
        SELECT l.hash, b.body FROM links AS l JOIN messages AS b ON b.hash = l.message
        WHERE l.parent = :head AND b.role = 'assistant'
    ) AS h
    JOIN turns AS t ON t.head = h.head JOIN messages AS a ON a.hash = t.answer
    WHERE t.agent = :agent AND t.kind = 'main' AND substr(t.session, 1, length(:prefix)) = :prefix
    ORDER BY t.seq DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTurn:
    """A turn that was answered, with each of its ``answers``; where the client began it, also with that before it.

    ``is_newest``: nobody has gone on from it. ``is_cut``: the answer broke off, or was stopped.
    """

    session: str
    answers: tuple[JsonObject, ...]
    is_newest: bool
    is_cut: bool = False


class PastTurnReader:
    """On ``turns.db``, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="past-turns")

    async def that_asked(
        self, messages: Sequence[JsonObject], *, agent: str, prefix: str, limit: int
    ) -> list[PastTurn]:
        """The newest turns whose request was ``messages`` in a session that begins with ``prefix``.

        Or these and the beginning of an answer, for the model to go on from. Raises ``JournalError``.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._query, messages, agent, prefix, limit)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _query(self, messages: Sequence[JsonObject], agent: str, prefix: str, limit: int) -> list[PastTurn]:
        if not messages:
            return []
        if self._connection is None:
            self._connection = open_reader(self._path)
        head = chain_hashes(map(freeze, messages))[-1]
        values = {"head": head, "agent": agent, "prefix": prefix, "limit": limit}
        try:
            rows = self._connection.execute(_ASKED, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"cannot read {self._path}: {error}") from error
        return [_past_turn(*row) for row in rows]


def _past_turn(session: str, first: str, others: str, begun: str | None, is_cut: int, is_newest: int) -> PastTurn:
    answers = [json.loads(first), *(message for other in json.loads(others) if (message := other.get("message")))]
    if begun is not None:  # some models repeat what they went on from, others do not
        beginning = text_of(json.loads(begun).get("content"))
        answers += [{**answer, "content": beginning + text_of(answer.get("content"))} for answer in answers]
    return PastTurn(session=session, answers=tuple(answers), is_newest=bool(is_newest), is_cut=bool(is_cut))
