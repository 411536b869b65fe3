"""Watching the learner from outside, through its journal.

Owns read-only questions to ``learning.db`` and ``turns.db``; refuses to write. Invariant: every figure on the screen
comes from the journals or from replies, none from what the demonstration expects.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.evaluation import RecordedAnswer
from metaclaw.journal.database import open_reader

_JOURNAL_S = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    version: int = 0  # that serves
    swaps: tuple[float, ...] = ()  # Unix seconds at which a version began to serve
    updates_finished: int = 0
    updates_rejected: int = 0
    is_updating: bool = False
    judged: int = 0
    pending: int = 0


class Journals:
    """Both databases of one home; either may not exist yet."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def progress(self) -> Progress:
        path = self._home / "learning.db"
        if not path.exists():
            return Progress()
        with closing(open_reader(path)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                return Progress()  # the learner is creating the file at this moment
            return _read_progress(connection)

    async def answers(self, turns: list[str]) -> list[RecordedAnswer]:
        """The recorded tokens of these turns, in their order. Raises ``KeyError`` for a turn without a sample."""
        deadline = time.monotonic() + _JOURNAL_S
        rows = dict[str, RecordedAnswer]()
        while len(rows) < len(turns):  # the gateway writes its journal a moment after it answered
            with closing(open_reader(self._home / "turns.db")) as connection:
                rows = dict(_sample_rows(connection, turns))
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        return [rows[turn] for turn in turns]


def _read_progress(connection: sqlite3.Connection) -> Progress:
    def number(query: str) -> int:
        return connection.execute(query).fetchone()[0] or 0

    return Progress(
        version=number("SELECT max(version) FROM serving"),
        swaps=tuple(since for (since,) in connection.execute("SELECT since FROM serving_history ORDER BY id")),
        updates_finished=number("SELECT count(*) FROM updates WHERE state IN ('committed', 'rejected')"),
        updates_rejected=number("SELECT count(*) FROM updates WHERE state = 'rejected'"),
        is_updating=bool(number("SELECT count(*) FROM updates WHERE state = 'running'")),
        judged=number("SELECT count(*) FROM judgements WHERE state = 'judged'"),
        pending=number("SELECT count(*) FROM samples WHERE state = 'pending'"),
    )


def _sample_rows(connection: sqlite3.Connection, turns: list[str]):
    marks = ",".join("?" * len(turns))
    for turn, prompt, answer in connection.execute(
        f"SELECT turn, prompt_tokens, tokens FROM samples WHERE turn IN ({marks})", turns
    ):
        yield turn, RecordedAnswer(np.frombuffer(prompt, "<i4"), np.frombuffer(answer, "<i4"))
