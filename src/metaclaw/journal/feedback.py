"""What a person thought of a turn or a session.

Owns the table of feedback; refuses to know HTTP and what is learned of it. Invariant: a row is never changed, and it
belongs to a turn or session that was there when it was given.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from metaclaw.errors import NotFoundError
from metaclaw.journal.turn_records import Feedback


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFeedback:
    """About ``turn``, or about ``session`` of ``agent``. With ``only_agent`` the turns of others do not exist."""

    turn: str | None
    agent: str
    session: str | None
    only_agent: str | None
    score: float | None
    text: str
    source: str
    created_at: float


def insert_feedback(connection: sqlite3.Connection, given: NewFeedback) -> Feedback:
    """Write it down with the exchange that it is about. Raises ``NotFoundError``."""
    agent, session, exchange = _about(connection, given)
    cursor = connection.execute(
        """
        INSERT INTO feedback (agent, session, turn, exchange, score, text, source, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (agent, session, given.turn, exchange, given.score, given.text, given.source, given.created_at),
    )
    assert cursor.lastrowid is not None
    return Feedback(
        id=cursor.lastrowid,
        agent=agent,
        session=session,
        turn=given.turn,
        exchange=exchange,
        score=given.score,
        text=given.text,
        source=given.source,
        created_at=given.created_at,
    )


def _about(connection: sqlite3.Connection, given: NewFeedback) -> tuple[str, str, str | None]:
    if given.turn is not None:
        row = connection.execute("SELECT agent, session, exchange FROM turns WHERE id = ?", (given.turn,)).fetchone()
        if row is None or given.only_agent not in (None, row[0]):
            raise NotFoundError(
                f"there is no turn {given.turn!r:.100}; the header X-MetaClaw-Turn of an answer has its id"
            )
        return row
    agent = given.only_agent or given.agent
    known = connection.execute(
        "SELECT 1 FROM turns WHERE agent = ? AND session = ? LIMIT 1", (agent, given.session)
    ).fetchone()
    if known is None or given.session is None:
        raise NotFoundError(f"agent {agent!r} has no session {given.session!r:.100}")
    return agent, given.session, None
