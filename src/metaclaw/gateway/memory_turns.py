"""``/v1/memory/buffer_turn``, ``ingest`` and ``flush_session``: turns that passed elsewhere, and reading them now.

Owns the shapes of these requests and how long one waits for the learner, which alone reads; refuses to know how. An
answer says what is so: a turn that is ``buffered`` is on disk, and ``added`` counts memories that are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from metaclaw.gateway.memory_desk import MemoryDesk
from metaclaw.identity import session_id
from metaclaw.memory.extraction.elsewhere import ToldExchange, ask_reading, reading, tell, waiting

_POLL_S = 0.1
_ALL_SESSIONS = None
_NOT_YET = "the learner has not read it yet: it does when it runs (`metaclaw start`), nothing is lost"

Clock = Callable[[], float]
_Name = Annotated[str | None, Field(default=None, max_length=200)]


class ToldTurn(BaseModel):
    """What was said and answered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt_text: str = Field(min_length=1, max_length=200_000)
    response_text: str = Field(default="", max_length=1_000_000)


class BufferTurn(BaseModel):
    """A turn that did not pass through the gateway. ``scope_id`` is what ``X-Memory-Scope`` is elsewhere."""

    model_config = ConfigDict(extra="forbid", strict=True)

    session_id: str = Field(min_length=1, max_length=200)
    turn: ToldTurn
    scope_id: _Name = None
    user_id: _Name = None
    workspace_id: _Name = None


class FlushSession(BaseModel):
    """Read this session now. ``scope_id`` and ``final`` change nothing: a session may always go on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    session_id: str = Field(min_length=1, max_length=200)
    scope_id: _Name = None
    final: bool = False
    wait_s: float = Field(default=10.0, ge=0, le=60)


class Ingest(BaseModel):
    """Read one session, or all of the agent's, now."""

    model_config = ConfigDict(extra="forbid", strict=True)

    session_id: _Name = None
    scope: _Name = None
    wait_s: float = Field(default=10.0, ge=0, le=60)


async def buffer_turn(desk: MemoryDesk, agent: str, told: BufferTurn, headers: Mapping[str, str], now: float) -> object:
    """Keep a turn for the learner, which reads it as it reads those that passed here."""
    exchange = ToldExchange(
        agent=agent,
        session=session_id(told.session_id),
        prompt=_text(told.turn.prompt_text),
        response=_text(told.turn.response_text),
        said_at=now,
        user=told.user_id or headers.get("x-user-id"),
        workspace=told.workspace_id or headers.get("x-workspace-id"),
        memory_scope=told.scope_id or headers.get("x-memory-scope"),
    )
    number = await desk.do(lambda store: tell(store, exchange))
    return {"id": exchange.id, "buffered": number, "flushed": False, "added": 0}


async def flush_session(desk: MemoryDesk, agent: str, asked: FlushSession, clock: Clock) -> object:
    """Have the learner read a session now, and wait a little for it."""
    session = session_id(asked.session_id)
    told = await _read(desk, agent, session, asked.wait_s, clock)
    return {"session_id": session, **told}


async def ingest(desk: MemoryDesk, agent: str, asked: Ingest, clock: Clock) -> object:
    """The same for all sessions of the agent, or for one."""
    session = session_id(asked.session_id) if asked.session_id else _ALL_SESSIONS
    return await _read(desk, agent, session, asked.wait_s, clock)


async def _read(desk: MemoryDesk, agent: str, session: str | None, wait_s: float, clock: Clock) -> dict[str, object]:
    number = await desk.do(lambda store: ask_reading(store, agent, session, clock()))
    try:
        async with asyncio.timeout(wait_s):
            while not ((found := await desk.do(lambda store: reading(store, number))) and found.is_done):  # noqa: ASYNC110 - another process has no event for us
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        found = None
    left = await desk.do(lambda store: waiting(store, agent, session))
    told: dict[str, object] = {"is_done": found is not None, "buffered_turns": len(left)}
    if found is None:
        return {**told, "added": 0, "sessions": 0, "note": _NOT_YET}
    return {**told, "added": found.num_added, "sessions": found.num_sessions}


def _text(text: str) -> str:
    # Lone surrogates, which JSON can carry and UTF-8 cannot, are kept as their escapes.
    return text.encode("utf-8", "backslashreplace").decode()
