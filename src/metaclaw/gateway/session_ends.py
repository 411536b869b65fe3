"""What a client's word that a session is done is good for: it is read and judged now, and not when it was silent.

Owns which turns said so, and that what they ask for comes after they are in the journal; refuses to know how anything
is read or judged. Invariant: an answer never waits for it, and a session of which nothing is said comes to the same,
later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from metaclaw.gateway.identify import Caller
from metaclaw.gateway.memory_desk import MemoryDesk
from metaclaw.gateway.recording_path import RecordingPath
from metaclaw.journal.ended_sessions import EndedSession, EndedSessions
from metaclaw.journal.spooled_turns import TurnSettled
from metaclaw.memory.extraction.elsewhere import ask_reading
from metaclaw.memory.service import MemoryService

Ask = Callable[[str, str], Awaitable[object]]  # of an agent, for a session

_PATIENCE_S = 10.0
_MAX_ENDING = 10_000  # turns whose record is late, or lost


class SessionEnds:
    """Used on the event loop alone."""

    def __init__(self, path: RecordingPath, asks: Sequence[Ask]) -> None:
        self._path = path
        self._asks = asks
        self._ending: dict[str, tuple[str, str]] = {}  # turns that run: the last of this agent's session
        self._tasks: set[asyncio.Task[object]] = set()

    def opened(self, turn_id: str, caller: Caller) -> None:
        """A turn began, of which it may be said that it is the last."""
        if caller.is_session_done:
            self._ending[turn_id] = (caller.agent, caller.session)
            if len(self._ending) > _MAX_ENDING:
                del self._ending[next(iter(self._ending))]

    def settled(self, turns: Sequence[TurnSettled]) -> None:
        """These are in the journal, where they can be read."""
        for turn in turns:
            if (session := self._ending.pop(turn.id, None)) is not None:
                for ask in self._asks:
                    task = asyncio.ensure_future(self._asked(ask, *session))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Ask for nothing more."""
        for task in self._tasks:
            task.cancel()

    async def _asked(self, ask: Ask, agent: str, session: str) -> object:
        return await self._path.attempt(
            f"tell the learner that the session {session} is done", lambda: ask(agent, session), otherwise=None
        )


def judging_asked_of(requests_db: Path, clock: Callable[[], float]) -> Ask:
    """Tells whoever judges that no follow-up comes."""
    sessions = EndedSessions(requests_db)

    async def ask(agent: str, session: str) -> object:
        return await asyncio.to_thread(sessions.note, EndedSession(agent=agent, session=session, at=clock()))

    return ask


def reading_asked_of(desk: MemoryDesk, sidecar: MemoryService | None, clock: Callable[[], float]) -> Ask:
    """Asks the learner, by way of the store that it reads into, wherever that is."""

    async def ask(agent: str, session: str) -> object:
        if sidecar is None:
            return await desk.do(lambda store: ask_reading(store, agent, session, clock()))
        body = json.dumps({"session_id": session, "wait_s": 0}).encode()
        headers = {"content-type": "application/json"}
        return await sidecar.passed_on(
            "POST", "/flush_session", agent=agent, query="", body=body, headers=headers, timeout_s=_PATIENCE_S
        )

    return ask
