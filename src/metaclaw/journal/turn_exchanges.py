"""Which exchange a turn of a tool loop belongs to.

Owns finding the loop that a turn goes on with; refuses to know how answers and keys are made. Invariant: it looks at a
bounded number of turns, and at one in the usual case, whatever the session holds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from metaclaw.chat.exchanges import UNSEEN, is_shared
from metaclaw.chat.messages import answer_identity
from metaclaw.journal.turn_records import NewTurn, exchange_key

_MAX_TURNS = 256  # of the session, newest first: loops that run at once in one session are fewer


def exchange_of(connection: sqlite3.Connection, turn: NewTurn) -> str:
    """The exchange of the answer that ``turn`` continues, or its own.

    The best is a loop whose newest answer is continued: of two that gave equal answers the one that was not gone on
    with. Then a loop that gave this answer earlier (the turn is a retry). Then the newest: the client rewrote the
    answer. What does not show the answer goes on with the newest of the session.

    A turn of a trace belongs to that; where it is the first of it, to the loop that gave the answer, if there is one.
    """
    is_of_trace = is_shared(turn.exchange)
    if turn.continues is None or (is_of_trace and _is_known(connection, turn.exchange)):
        return turn.exchange
    if turn.continues == UNSEEN:
        return _newest(connection, turn) or turn.exchange
    seen: set[str] = set()
    newest = earlier = None
    for exchange, answer in _answers(connection, turn, key="" if is_of_trace else exchange_key(turn.exchange)):
        newest = newest or (None if is_of_trace else exchange)
        if answer_identity(json.loads(answer)) == turn.continues:
            if exchange not in seen:
                return exchange
            earlier = earlier or exchange
        seen.add(exchange)
    return earlier or newest or turn.exchange


def _newest(connection: sqlite3.Connection, turn: NewTurn) -> str | None:
    row = connection.execute(
        "SELECT exchange FROM turns WHERE agent = ? AND session = ? AND kind = ? ORDER BY seq DESC LIMIT 1",
        (turn.agent, turn.session, turn.kind),
    ).fetchone()
    return None if row is None else row[0]


def _is_known(connection: sqlite3.Connection, exchange: str) -> bool:
    return connection.execute("SELECT 1 FROM turns WHERE exchange = ? LIMIT 1", (exchange,)).fetchone() is not None


def _answers(connection: sqlite3.Connection, turn: NewTurn, *, key: str) -> Iterator[tuple[str, str]]:
    rows = connection.execute(
        "SELECT exchange, answer FROM turns WHERE agent = ? AND session = ? AND kind = ? ORDER BY seq DESC LIMIT ?",
        (turn.agent, turn.session, turn.kind, _MAX_TURNS),
    )
    for exchange, answer in rows:
        if answer is not None and exchange.startswith(key):
            (body,) = connection.execute("SELECT body FROM messages WHERE hash = ?", (answer,)).fetchone()
            yield exchange, body
