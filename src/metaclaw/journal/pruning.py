"""Giving up old turns.

Owns which turns go, and what goes with them; refuses to know when and who asks. Invariant: a turn that is open, or in
an exchange that is still needed for learning, stays; a message stays as long as any turn that stays has it in its
history; feedback stays, but with a session that is given up by name. Each step is a short transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path

from metaclaw.journal.database import reading

_NOBODY_ELSE: Mapping[str, float] = {}
_STEP = 50  # turns in one transaction: some milliseconds


def needed_exchanges(learning_db: Path) -> frozenset[str]:
    """The exchanges that an update may still train on. Raises ``JournalError``."""
    if not learning_db.exists():
        return frozenset()
    with reading(learning_db) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            return frozenset()
        rows = connection.execute("SELECT DISTINCT exchange FROM samples WHERE state IN ('pending', 'claimed')")
        return frozenset(exchange for (exchange,) in rows.fetchall())


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the database holds, without pages that are free to be used again."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return (pages - free) * size


def prune_step(
    connection: sqlite3.Connection,
    *,
    opened_before: float,
    unjudged_after: float,
    max_bytes: int | None,
    needed: Collection[str],
    opened_before_of: Mapping[str, float] = _NOBODY_ELSE,
) -> int:
    """Within a transaction, give up some of the oldest turns; return how many, 0 when nothing is left.

    Those that opened before ``opened_before``, or before what ``opened_before_of`` says for their agent, and the oldest
    of all while the database holds more than ``max_bytes``. What the policy drew after ``unjudged_after`` may not have
    been judged yet and stays.
    """

    def is_too_large() -> bool:
        return max_bytes is not None and used_bytes(connection) > max_bytes

    turns = connection.execute(
        """
        SELECT turns.seq, turns.id, turns.head, turns.answer, opened_at < coalesce(own.value, :before)
        FROM turns LEFT JOIN json_each(:before_of) AS own ON own.key = agent
        WHERE state <> 'open' AND (opened_at < coalesce(own.value, :before) OR :is_too_large)
            AND exchange NOT IN (SELECT value FROM json_each(:needed))
            AND (opened_at < :unjudged OR NOT EXISTS (SELECT 1 FROM samples WHERE turn = turns.id))
        ORDER BY turns.seq LIMIT :step
        """,
        {
            "before": opened_before,
            "before_of": json.dumps(opened_before_of),
            "is_too_large": is_too_large(),
            "needed": json.dumps(list(needed)),
            "unjudged": unjudged_after,
            "step": _STEP,
        },
    ).fetchall()
    num_pruned = 0
    for seq, turn_id, head, answer, is_old in turns:
        if not is_old and not is_too_large():
            continue  # those before it were enough
        num_pruned += 1
        _give_up(connection, seq, turn_id, head, answer)
    return num_pruned


def prune_session(connection: sqlite3.Connection, agent: str, session: str, *, needed: Collection[str]) -> int:
    """Within a transaction, give up a session's turns, those too that a dead gateway left open, and the feedback on
    them; return how many."""
    turns = connection.execute(
        """
        SELECT seq, id, head, answer FROM turns
        WHERE agent = ? AND session = ? AND exchange NOT IN (SELECT value FROM json_each(?)) ORDER BY seq
        """,
        (agent, session, json.dumps(list(needed))),
    ).fetchall()
    for turn in turns:
        _give_up(connection, *turn)
    connection.execute(
        """
        DELETE FROM feedback WHERE agent = ?1 AND session = ?2
            AND NOT EXISTS (SELECT 1 FROM turns WHERE agent = ?1 AND session = ?2 AND id = coalesce(turn, id))
        """,
        (agent, session),
    )
    return len(turns)


def _give_up(connection: sqlite3.Connection, seq: int, turn_id: str, head: bytes | None, answer: bytes | None) -> None:
    connection.execute("DELETE FROM samples WHERE turn = ?", (turn_id,))
    connection.execute("DELETE FROM recall_blocks WHERE turn = ?", (turn_id,))
    connection.execute("DELETE FROM recalls WHERE turn = ?", (turn_id,))
    connection.execute("DELETE FROM turns WHERE seq = ?", (seq,))
    _forget_history(connection, head)
    if answer is not None:
        _forget_message(connection, answer)


def _forget_history(connection: sqlite3.Connection, head: bytes | None) -> None:
    # From the end backwards, up to what another turn has in its history too.
    while head is not None:
        row = connection.execute(
            """
            SELECT parent, message FROM links WHERE hash = ?1
                AND NOT EXISTS (SELECT 1 FROM turns WHERE head = ?1)
                AND NOT EXISTS (SELECT 1 FROM links WHERE parent = ?1)
            """,
            (head,),
        ).fetchone()
        if row is None:
            return
        connection.execute("DELETE FROM links WHERE hash = ?", (head,))
        _forget_message(connection, row[1])
        head = row[0]


def _forget_message(connection: sqlite3.Connection, message: bytes) -> None:
    connection.execute(
        """
        DELETE FROM messages WHERE hash = ?1
            AND NOT EXISTS (SELECT 1 FROM links WHERE message = ?1)
            AND NOT EXISTS (SELECT 1 FROM turns WHERE answer = ?1)
        """,
        (message,),
    )
