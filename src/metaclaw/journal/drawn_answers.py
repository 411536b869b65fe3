"""What the policy drew in a session, as ``turns.db`` says.

Owns this one question of the gateway; refuses to write. Invariant: an answer comes with exactly the tokens that were
recorded with it, and only answers that were complete come.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import JournalError
from metaclaw.journal.database import open_reader

_MAX_ANSWERS = 200  # of one session: an older history is rendered from its text
_QUERY = """
    SELECT messages.body, samples.tokens, samples.renderer
    FROM turns JOIN samples ON samples.turn = turns.id JOIN messages ON messages.hash = turns.answer
    WHERE turns.agent = ? AND turns.session = ? AND turns.state = 'done' ORDER BY turns.seq DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnAnswer:
    """An answer of the policy: the message as the client got it, its tokens (base64 of int32), and their renderer."""

    message: JsonObject
    tokens: str
    renderer: str


class DrawnAnswersReader:
    """Asks on a thread of its own, so that a busy file never holds up the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drawn-answers")

    async def drawn_answers(self, agent: str, session: str) -> list[DrawnAnswer]:
        """The newest answers of a session, oldest first. Raises ``JournalError``."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, agent, session)

    def close(self) -> None:
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _read(self, agent: str, session: str) -> list[DrawnAnswer]:
        if self._connection is None:
            self._connection = open_reader(self._path)
        try:
            rows = self._connection.execute(_QUERY, (agent, session, _MAX_ANSWERS)).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"cannot read {self._path}: {error}") from error
        return [
            DrawnAnswer(message=json.loads(body), tokens=base64.b64encode(tokens).decode(), renderer=renderer)
            for body, tokens, renderer in reversed(rows)
        ]
