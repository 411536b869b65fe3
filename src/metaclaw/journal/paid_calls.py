"""What models that are asked so that something is learned took.

Owns the table ``paid_calls`` of ``learning.db``, and what it was in older files; refuses to know prices, and how
anybody is asked. Invariant: an answer is written down once, when it came, whatever becomes of what it was for.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.teacher_words import MAX_BYTES, Heard, Kept, read_words, write_words

Clock = Callable[[], float]

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


class CallBook:
    """A connection of its own, for the learner's process alone. Any thread may use it.

    Of what teachers said, ``max_words_bytes`` are kept at most, the newest.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock = time.time, *, max_words_bytes: int = MAX_BYTES
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._max_words_bytes = max_words_bytes
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, clock: Clock = time.time) -> CallBook:
        """Open ``learning.db``; raises ``JournalError``."""
        return cls(open_writer(path, "learning"), clock)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def record(self, call: PaidCall, heard: Heard | None = None) -> None:
        """Write down what one answer took and, in the same transaction, what a teacher said in it."""
        with self._lock, transaction(self._connection):
            call_id = self._connection.execute(
                "INSERT INTO paid_calls (purpose, agent, model, tokens, is_estimate, prompt_tokens, completion_tokens,"
                " cost_usd, called_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (call.purpose, call.agent, call.model, call.tokens, call.is_estimate, call.prompt_tokens,
                 call.completion_tokens, call.cost_usd, self._clock()),
            ).lastrowid  # fmt: skip
            assert call_id is not None
            if heard is not None:
                write_words(self._connection, call_id, heard, self._max_words_bytes)

    def kept(self, teacher: str, turns: Collection[str]) -> Kept:
        """What is kept of what ``teacher`` said of ``turns``."""
        with self._lock:
            return read_words(self._connection, teacher, turns)

    def spent(self, purpose: Purpose, *, last_s: float) -> tuple[int, float]:
        """Tokens and known US dollars that ``purpose`` took in the last ``last_s`` seconds."""
        with self._lock:
            row = self._connection.execute(
                "SELECT coalesce(sum(tokens), 0), coalesce(sum(cost_usd), 0.0) FROM paid_calls"
                " WHERE purpose = ? AND called_at > ?",
                (purpose, self._clock() - last_s),
            ).fetchone()
        return row[0], row[1]


def calls_in(db: sqlite3.Connection) -> str:
    """What to select from for the columns of ``paid_calls``, in a file of whatever release."""
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    if schema >= _ONE_TABLE:
        return "paid_calls"
    known = [query for first, end, query in _OLDER if first <= schema < end]
    names = ", ".join(f"NULL AS {name}" for name in ("purpose", *_COLUMNS.split(", ")))
    return f"({' UNION ALL '.join(known) or f'SELECT {names} WHERE false'})"
