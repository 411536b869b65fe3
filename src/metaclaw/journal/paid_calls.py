"""What models that are asked so that something is learned took.

Owns the table ``paid_calls`` of ``learning.db``, and what it was in older files; refuses to know prices, and how
anybody is asked. Invariant: an answer is counted once, when it came, whatever becomes of what it was for and of the
disk.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from metaclaw.errors import JournalError
from metaclaw.journal.database import is_of_the_record, transaction
from metaclaw.journal.learning_connection import Clock, LearningConnection
from metaclaw.journal.teacher_words import MAX_BYTES, Heard, Kept, read_words, write_words

_log = logging.getLogger(__name__)

# ``judging`` scores exchanges and replays, ``comparing`` answers for the gate; ``remembering`` is reading exchanges for
# memories, ``teaching`` asking a teacher elsewhere.
Purpose = Literal["judging", "comparing", "remembering", "teaching"]

_ONE_TABLE = 11  # the schema since which they are; the learner brings an older file up to date when it starts
_COLUMNS = "agent, tokens, is_estimate, prompt_tokens, completion_tokens, cost_usd, called_at"
_JUDGES = "CASE purpose WHEN 'exchange' THEN 'judging' ELSE 'comparing' END AS purpose"
_OLDER: tuple[tuple[int, int, str], ...] = (  # from which schema to before which
    (7, 8, f"SELECT {_JUDGES}, agent, tokens, is_estimate, NULL AS prompt_tokens, NULL AS completion_tokens, cost_usd,"
           " called_at FROM judge_calls"),
    (8, _ONE_TABLE, f"SELECT {_JUDGES}, {_COLUMNS} FROM judge_calls"),
    (8, _ONE_TABLE, "SELECT 'remembering' AS purpose, agent, prompt_tokens + completion_tokens AS tokens,"
                    " 0 AS is_estimate, prompt_tokens, completion_tokens, cost_usd, called_at FROM extraction_calls"),
    (10, _ONE_TABLE, f"SELECT 'teaching' AS purpose, {_COLUMNS} FROM teacher_calls"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidCall:
    """One answer of a model. ``None`` is unknown; ``is_estimate`` is of ``tokens`` alone."""

    purpose: Purpose
    agent: str
    model: str | None = None
    tokens: int | None = None
    is_estimate: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An answer, when it came, in Unix seconds, and what a teacher said in it."""

    call: PaidCall
    heard: Heard | None
    called_at: float


class CallBook(LearningConnection):
    """A connection of its own, for the learner's process alone.

    What the disk does not take waits in memory, counted as if it were written; each later call tries it again, in the
    order in which it came. It is lost only with the process. Of what teachers said, ``max_words_bytes`` are kept at
    most, the newest.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock = time.time, *, max_words_bytes: int = MAX_BYTES
    ) -> None:
        super().__init__(connection, clock)
        self._max_words_bytes = max_words_bytes
        self._waiting: deque[_Entry] = deque()
        self._trouble: str | None = None

    def close(self) -> None:
        """Write what waits, or say what is lost."""
        try:
            if self.trouble is not None:
                tokens, usd = _total([entry.call for entry in self._waiting])
                _log.error("%d paid answers (%d tokens, %.2f USD) are lost", len(self._waiting), tokens, usd)
        finally:
            super().close()

    def record(self, call: PaidCall, heard: Heard | None = None) -> None:
        """Write down what one answer took and, in the same transaction, what a teacher said in it.

        What cannot be written now is kept; ``JournalError`` says that this very answer never can be.
        """
        entry = _Entry(call=call, heard=heard, called_at=self._clock())
        with self._lock:
            self._waiting.append(entry)
            self._write_waiting()

    @property
    def trouble(self) -> str | None:
        """Why what was paid cannot be written down at this moment, having tried; ``None`` when all of it is."""
        with self._lock:
            self._write_waiting()
            return self._trouble

    def kept(self, teacher: str, turns: Collection[str]) -> Kept:
        """What is kept of what ``teacher`` said of ``turns``."""
        with self._read() as db:
            return read_words(db, teacher, turns)

    def spent(self, purpose: Purpose, *, last_s: float) -> tuple[int, float]:
        """Tokens and known US dollars that ``purpose`` took in the last ``last_s`` seconds."""
        # What comes later was written down before the clock was set back. Somewhat later counts, as it may be of the
        # last hours; what is far off would count until that time comes.
        since, until = self._clock() - last_s, self._clock() + last_s
        with self._read() as db:
            row = db.execute(
                "SELECT coalesce(sum(tokens), 0), coalesce(sum(cost_usd), 0.0) FROM paid_calls"
                " WHERE purpose = ? AND called_at > ? AND called_at < ?",
                (purpose, since, until),
            ).fetchone()
            waiting = [
                one.call for one in self._waiting if one.call.purpose == purpose and since < one.called_at < until
            ]
        tokens, usd = _total(waiting)
        return row[0] + tokens, row[1] + usd

    def _write_waiting(self) -> None:
        """Under the lock: write what waits, as far as it goes."""
        while self._waiting:
            entry = self._waiting[0]
            try:
                with transaction(self._connection):
                    self._write_one(entry)
            except sqlite3.Error as error:
                if is_of_the_record(error):  # else it would be in the way of all others for ever
                    self._waiting.popleft()
                    raise JournalError(f"what an answer took cannot be written down: {error}") from error
                if self._trouble is None:
                    _log.warning("what answers take is counted in memory until it can be written down: %s", error)
                self._trouble = str(error)
                return
            self._waiting.popleft()
        if self._trouble is not None:
            _log.warning("what answers took is written down again")
        self._trouble = None

    def _write_one(self, entry: _Entry) -> None:
        call = entry.call
        call_id = self._connection.execute(
            "INSERT INTO paid_calls (purpose, agent, model, tokens, is_estimate, prompt_tokens, completion_tokens,"
            " cost_usd, called_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (call.purpose, call.agent, call.model, call.tokens, call.is_estimate, call.prompt_tokens,
             call.completion_tokens, call.cost_usd, entry.called_at),
        ).lastrowid  # fmt: skip
        assert call_id is not None
        if entry.heard is not None:
            write_words(self._connection, call_id, entry.heard, self._max_words_bytes)


def _total(calls: Collection[PaidCall]) -> tuple[int, float]:
    return sum(call.tokens or 0 for call in calls), sum(call.cost_usd or 0.0 for call in calls)


def calls_in(db: sqlite3.Connection) -> str:
    """What to select from for the columns of ``paid_calls``, in a file of whatever release."""
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    if schema >= _ONE_TABLE:
        return "paid_calls"
    known = [query for first, end, query in _OLDER if first <= schema < end]
    names = ", ".join(f"NULL AS {name}" for name in ("purpose", *_COLUMNS.split(", ")))
    return f"({' UNION ALL '.join(known) or f'SELECT {names} WHERE false'})"
