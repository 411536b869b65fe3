"""Exchanges that did not pass through the gateway, and readings that somebody asked for.

Owns the two tables by which other processes tell the learner of them; refuses to know what is found in an exchange.
Invariants: an exchange that was told is kept until the transaction that notes it as read, and told twice it is read
once; a reading that was asked for is answered once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from metaclaw.memory.forgetting import Whose
from metaclaw.memory.store import MemoryStore, told

_COLUMNS = "id, agent, session, user, workspace, memory_scope, prompt, response, said_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldExchange:
    """What a user said and was answered elsewhere."""

    agent: str
    session: str
    prompt: str
    response: str
    said_at: float
    user: str | None = None
    workspace: str | None = None
    memory_scope: str | None = None

    @property
    def id(self) -> str:
        """The same for the same words in the same session: a client that sends them again says nothing new."""
        content = json.dumps([self.agent, self.session, self.prompt, self.response])
        return f"told-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedReading:
    """A session, or all of an agent's, that is to be read now; what came of it once ``is_done``."""

    id: int
    agent: str
    session: str | None
    is_done: bool = False
    num_added: int = 0
    num_sessions: int = 0


def tell(store: MemoryStore, exchange: ToldExchange) -> int:
    """Keep ``exchange`` until it was read, unless it was; return how many of its session wait."""
    fields = (
        exchange.id, exchange.agent, exchange.session, exchange.user, exchange.workspace, exchange.memory_scope,
        exchange.prompt, exchange.response, exchange.said_at,
    )  # fmt: skip
    with store.writing("tell"):
        store.connection.execute(
            f"INSERT OR IGNORE INTO buffered ({_COLUMNS}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
            " WHERE NOT EXISTS (SELECT 1 FROM extracted WHERE exchange = ?1)",
            fields,
        )
    return len(waiting(store, exchange.agent, exchange.session))


def waiting(store: MemoryStore, agent: str | None = None, session: str | None = None) -> list[ToldExchange]:
    """What was told and not read yet, in the order of its coming."""
    with told("read"):
        rows = store.connection.execute(
            f"SELECT {_COLUMNS} FROM buffered WHERE (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR session = ?2)"
            " ORDER BY seq",
            (agent, session),
        ).fetchall()
    names = [name.strip() for name in _COLUMNS.split(",")][1:]
    return [ToldExchange(**dict(zip(names, row[1:], strict=True))) for row in rows]


def discard(store: MemoryStore, whose: Whose) -> int:
    """Forget what was told and not read yet, as ``whose`` describes; how many exchanges that were."""
    conditions = {"agent": whose.agent, "user": whose.user, "session": whose.session}
    bounds = {"said_at >= ?": whose.said_since, "said_at < ?": whose.said_before}
    named = {f"{name} = ?": value for name, value in conditions.items()}
    given = {condition: value for condition, value in (named | bounds).items() if value is not None}
    if not given:
        return 0
    with store.writing("forget"):
        query = f"DELETE FROM buffered WHERE {' AND '.join(given)}"
        return store.connection.execute(query, list(given.values())).rowcount


def ask_reading(store: MemoryStore, agent: str, session: str | None, now: float) -> int:
    """Ask for a reading; its number."""
    with store.writing("ask for a reading of"):
        number = store.connection.execute(
            "INSERT INTO readings (agent, session, asked_at) VALUES (?, ?, ?)", (agent, session, now)
        ).lastrowid
    assert number is not None
    return number


def asked_readings(store: MemoryStore) -> list[AskedReading]:
    """What was asked for and not answered, oldest first."""
    with told("read"):
        rows = store.connection.execute("SELECT id, agent, session FROM readings WHERE done_at IS NULL ORDER BY id")
        return [AskedReading(id=number, agent=agent, session=session) for number, agent, session in rows.fetchall()]


def answer_reading(store: MemoryStore, number: int, *, num_added: int, num_sessions: int, now: float) -> None:
    """Say what came of a reading; only the first answer counts."""
    with store.writing("answer in"):
        store.connection.execute(
            "UPDATE readings SET done_at = ?, num_added = ?, num_sessions = ? WHERE id = ? AND done_at IS NULL",
            (now, num_added, num_sessions, number),
        )


def reading(store: MemoryStore, number: int) -> AskedReading | None:
    """One reading by its number."""
    with told("read"):
        row = store.connection.execute(
            "SELECT agent, session, done_at IS NOT NULL, coalesce(num_added, 0), coalesce(num_sessions, 0)"
            " FROM readings WHERE id = ?",
            (number,),
        ).fetchone()
    if row is None:
        return None
    agent, session, is_done, added, sessions = row
    return AskedReading(
        id=number, agent=agent, session=session, is_done=bool(is_done), num_added=added, num_sessions=sessions
    )
