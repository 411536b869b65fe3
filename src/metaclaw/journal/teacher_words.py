"""What teachers that are paid said of turns that an update may still have.

Owns the table ``teacher_words`` of ``learning.db``; refuses to know what was asked, and what it weighs. Invariant: only
of a sample that waits for an update or is in one, as the table's triggers take away what is said of any other; and
never more than a given number of bytes, of which the newest stay.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass

# Four bytes a token: answers of 16 million tokens, which the usual cap of rl.opd allows in three days at the soonest.
# What is dropped is asked for again where somebody needs it.
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """By turn, a teacher's log-probability of each token of its answer: float32, little-endian."""

    teacher: str
    words: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """``Heard`` before, by turn, and what the answers took; US dollars are ``None`` where one's are unknown."""

    words: Mapping[str, bytes]
    tokens: int
    cost_usd: float | None


def write_words(db: sqlite3.Connection, call_id: int, heard: Heard, max_bytes: int) -> None:
    """Within the caller's transaction. What is said of a turn that no update will have is not kept."""
    db.executemany(
        "INSERT OR REPLACE INTO teacher_words (turn, teacher, call, logprobs)"
        " SELECT turn, ?, ?, ? FROM samples WHERE turn = ? AND state IN ('pending', 'claimed')",
        [(heard.teacher, call_id, logprobs, turn) for turn, logprobs in heard.words.items()],
    )
    db.execute(
        """
        DELETE FROM teacher_words WHERE (turn, teacher) IN (
            SELECT turn, teacher FROM (
                SELECT turn, teacher, sum(length(logprobs)) OVER (ORDER BY call DESC, turn, teacher) AS total
                FROM teacher_words
            ) WHERE total > ?
        )
        """,
        (max_bytes,),
    )


def read_words(db: sqlite3.Connection, teacher: str, turns: Collection[str]) -> Kept:
    """What is kept of what ``teacher`` said of ``turns``."""
    rows = db.execute(
        "SELECT turn, call, logprobs FROM teacher_words WHERE teacher = ? AND turn IN (SELECT value FROM json_each(?))",
        (teacher, json.dumps(list(turns))),
    ).fetchall()
    calls = {call for _, call, _ in rows}
    tokens, cost_usd = db.execute(
        "SELECT coalesce(sum(tokens), 0), CASE WHEN count(*) = count(cost_usd) THEN coalesce(sum(cost_usd), 0.0) END"
        " FROM paid_calls WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(calls)),),
    ).fetchone()
    return Kept(words={turn: logprobs for turn, _, logprobs in rows}, tokens=tokens, cost_usd=cost_usd)
