"""How the memory fares, for whoever looks after it.

Owns the counts and what follows from them; refuses to change anything but what ``maintain`` says. Invariant: an action
names the command or the request that does it, and none is proposed without a reason in the store.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass

from metaclaw.memory.doctor import examine, mend
from metaclaw.memory.forgetting import clear
from metaclaw.memory.store import MemoryStore, told

_MOST_USED = 10
_OLD_S = 365 * 86_400.0  # never recalled in so long
_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """A memory and how often it was recalled."""

    id: str
    text: str
    number: int
    last_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UseReport:
    """Whether what is remembered is of use, and what reading for it left out, by the rule that did."""

    units: int
    used: int
    never_used: int
    most_used: tuple[Used, ...]
    exchanges_read: int
    units_found: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The store as a whole. ``uncleared`` were forgotten and their bytes may be in the file still."""

    units: int
    agents: int
    waiting_exchanges: int
    last_read_at: float | None
    uncleared: int
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """How many memories that hold somebody has: the agent itself where there is no ``owner``."""

    agent: str
    scope: str
    owner: str | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What somebody may do, and why. ``ids`` are the memories that it is about, at most a few."""

    what: str
    how: str
    number: int
    ids: tuple[str, ...] = ()


def report_use(store: MemoryStore, agent: str) -> UseReport:
    """How an agent's memories were used."""
    with told("count"):
        held = "FROM units LEFT JOIN uses ON uses.unit = units.id WHERE units.agent = ? AND superseded_by IS NULL"
        units, used = store.connection.execute(f"SELECT count(*), count(uses.unit) {held}", (agent,)).fetchone()
        most = store.connection.execute(
            f"SELECT units.id, units.text, uses.number, uses.last_at {held} AND uses.number > 0"
            " ORDER BY uses.number DESC, uses.last_at DESC LIMIT ?",
            (agent, _MOST_USED),
        ).fetchall()
        read = store.connection.execute("SELECT num_units, detail FROM extracted WHERE agent = ?", (agent,)).fetchall()
    left_out = Counter[str]()
    for _, detail in read:
        left_out.update(json.loads(detail))
    return UseReport(
        units=units,
        used=used,
        never_used=units - used,
        most_used=tuple(Used(id=row[0], text=row[1], number=row[2], last_at=row[3]) for row in most),
        exchanges_read=len(read),
        units_found=sum(number for number, _ in read),
        left_out=dict(left_out),
    )


def report_state(store: MemoryStore) -> State:
    """How the whole store is: of all agents."""
    with told("count"):
        one = store.connection
        units, agents = one.execute("SELECT count(*), count(DISTINCT agent) FROM units").fetchone()
        return State(
            units=units,
            agents=agents,
            waiting_exchanges=_number(one, "buffered"),
            last_read_at=one.execute("SELECT max(extracted_at) FROM extracted").fetchone()[0],
            uncleared=_number(one, "forgotten WHERE cleared_at IS NULL"),
            copies=_number(one, "copies"),
        )


def report_owners(store: MemoryStore) -> list[Held]:
    """Whose the memories are that hold, of all agents."""
    with told("count"):
        rows = store.connection.execute(
            "SELECT agent, scope, coalesce(user, workspace, session), count(*) FROM units"
            " WHERE superseded_by IS NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ).fetchall()
    return [
        Held(agent=agent, scope=scope, owner=None if scope == "agent" else owner, number=number)
        for agent, scope, owner, number in rows
    ]


def plan(store: MemoryStore, agent: str, now: float) -> list[Action]:
    """What an agent's owner may want to look at: nothing of it is done by itself."""
    looks = (
        (
            "memories that were not recalled in a year",
            "look at them with `metaclaw memory show`, and `metaclaw memory forget` what is of no use",
            "uses.unit IS NULL AND units.said_at < ?",
            (now - _OLD_S,),
        ),
        (
            "memories of little trust, which are never recalled",
            "`metaclaw memory edit` those that are right, `metaclaw memory forget` the others",
            "units.trust < 0.2",
            (),
        ),
        (
            "memories whose time is over and that nothing replaced",
            "`metaclaw memory edit` them if they hold again",
            "units.true_until < ?",
            (now,),
        ),
    )
    actions: list[Action] = []
    with told("count"):
        for what, how, condition, values in looks:
            rows = store.connection.execute(
                "SELECT units.id FROM units LEFT JOIN uses ON uses.unit = units.id"
                f" WHERE units.agent = ? AND units.superseded_by IS NULL AND {condition} ORDER BY units.said_at",
                (agent, *values),
            ).fetchall()
            if rows:
                ids = tuple(unit for (unit,) in rows[:_NAMED])
                actions.append(Action(what=what, how=how, number=len(rows), ids=ids))
    return actions


def maintain(store: MemoryStore, now: float) -> list[str]:
    """Make anew what follows from the memories, where it is not as it should be, and clear what was forgotten."""
    done: list[str] = []
    if any(complaint.is_mendable for complaint in examine(store)):
        mend(store)
        done.append("the index was made anew")
    with told("count"):
        waits = _number(store.connection, "forgotten WHERE cleared_at IS NULL")
    if clear(store, now) and waits:
        done.append(f"the bytes of {waits} forgotten memories were cleared")
    return done


def _number(connection: sqlite3.Connection, table: str) -> int:
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
