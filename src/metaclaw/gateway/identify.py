"""Who is calling: agent, session, kind of turn, run.

Owns putting together what a request claims and what its conversation shows; refuses to know what identity is used for.
Invariant: the same conversation keeps its session, and two people's conversations are two.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from metaclaw.fixed import fixed
from metaclaw.gateway.claims import (
    Evidence,
    claimed_agent,
    claimed_run,
    claimed_session,
    claimed_trace,
    previous_response,
    session_key,
)
from metaclaw.gateway.control_keys import is_yes
from metaclaw.gateway.conversations import Conversations
from metaclaw.gateway.turn_kinds import guessed_kind, stated_kind
from metaclaw.journal.turns import TurnKind


@fixed
class Caller:
    """Whose turn this is.

    ``run`` and ``trace`` are the client's own ids of what it is doing, by which its turns are grouped into exchanges.
    ``is_session_done``: the client says that nothing more comes in this session. ``memory_scope``, ``user`` and
    ``workspace`` are what the client says of whom and what memories are about. ``key`` is the name of the token.
    """

    agent: str
    session: str
    kind: TurnKind
    run: str | None = None
    trace: str | None = None
    is_session_done: bool = False
    memory_scope: str | None = None
    user: str | None = None
    workspace: str | None = None
    key: str | None = None


class Sender(Protocol):
    """Somebody whose request was checked."""

    @property
    def agent(self) -> str: ...

    def caller(self) -> Caller | Coroutine[Any, Any, Caller]:
        """Whose turn it is; where the journal has to be asked, what asks it, to be awaited. Call it once."""
        ...


class Introduction:
    """What a request says of its sender, checked; ``caller`` puts together the rest, when somebody needs it.

    Raises ``InvalidRequestError`` for an id that is not valid, ``ForbiddenError`` for one that is not theirs.
    """

    def __init__(self, evidence: Evidence, *, turn_id: str, key: str, conversations: Conversations) -> None:
        headers, controls = evidence.headers, evidence.controls
        self._evidence = evidence
        self._turn_id = turn_id
        self._key = key
        self._conversations = conversations
        self.agent = claimed_agent(evidence)
        self._kind: TurnKind | None = stated_kind(headers.get("x-turn-type"), controls.turn_type)
        self._run = claimed_run(evidence)
        self._session = claimed_session(evidence)
        self._is_session_done = _is_session_done(headers, controls.session_done)

    def caller(self) -> Caller | Coroutine[Any, Any, Caller]:
        evidence = self._evidence
        messages = evidence.request.messages
        kind = self._kind or guessed_kind(evidence.request.body, messages, session_key(evidence), evidence.headers)
        if not messages:  # vectors, tokens: whatever the client calls it, there is nothing to learn from
            kind = "side"
        session = self._session or self._conversations.begin(
            self._turn_id,
            messages,
            agent=self.agent,
            who=self._key,
            is_side=kind == "side",
            after=previous_response(evidence.request),
        )
        return self._caller(kind, session) if isinstance(session, str) else self._caller_of(kind, session)

    async def _caller_of(self, kind: TurnKind, session: Coroutine[Any, Any, str]) -> Caller:
        return self._caller(kind, await session)

    def _caller(self, kind: TurnKind, session: str) -> Caller:
        headers, controls = self._evidence.headers, self._evidence.controls
        return Caller(
            agent=self.agent,
            session=session,
            kind=kind,
            run=self._run,
            trace=claimed_trace(self._evidence),
            is_session_done=self._is_session_done,
            memory_scope=headers.get("x-memory-scope") or controls.memory_scope,
            user=headers.get("x-user-id") or controls.user_id,
            workspace=headers.get("x-workspace-id") or controls.workspace_id,
            key=self._key,
        )


def _is_session_done(headers: Mapping[str, str], control: bool | None) -> bool:
    given = headers.get("x-session-done")
    return is_yes(given, param="X-Session-Done") if given else bool(control)
