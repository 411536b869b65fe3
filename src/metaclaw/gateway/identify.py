"""Who is calling: agent, session, kind of turn, run.

Owns putting together what a request claims and what its conversation shows; refuses to know what identity is used for.
Invariant: the same conversation keeps its session, and two people's conversations are two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metaclaw.gateway.claims import (
    Evidence,
    claimed_agent,
    claimed_run,
    claimed_session,
    claimed_trace,
    session_key,
)
from metaclaw.gateway.control_keys import is_yes
from metaclaw.gateway.conversations import Conversations
from metaclaw.gateway.turn_kinds import guessed_kind, stated_kind
from metaclaw.journal.turns import TurnKind


@dataclass(frozen=True, slots=True, kw_only=True)
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


async def identify(evidence: Evidence, *, turn_id: str, key: str, conversations: Conversations) -> Caller:
    """The caller. Raises ``InvalidRequestError`` for an id that is not valid, ``ForbiddenError`` for one not theirs."""
    headers, controls, request = evidence.headers, evidence.controls, evidence.request
    agent = claimed_agent(evidence)
    kind = stated_kind(headers.get("x-turn-type"), controls.turn_type) or guessed_kind(
        request.body, request.messages, session_key(evidence)
    )
    if not request.messages:  # vectors, tokens: whatever the client calls it, there is nothing to learn from
        kind = "side"
    run, trace = claimed_run(evidence), claimed_trace(evidence)
    is_session_done = _is_session_done(headers, controls.session_done)
    session = claimed_session(evidence)
    if session is None:
        session = await conversations.begin(turn_id, request.messages, agent=agent, who=key, is_side=kind == "side")
    return Caller(
        agent=agent,
        session=session,
        kind=kind,
        run=run,
        trace=trace,
        is_session_done=is_session_done,
        memory_scope=headers.get("x-memory-scope") or controls.memory_scope,
        user=headers.get("x-user-id") or controls.user_id,
        workspace=headers.get("x-workspace-id") or controls.workspace_id,
        key=key,
    )


def _is_session_done(headers: Mapping[str, str], control: bool | None) -> bool:
    given = headers.get("x-session-done")
    return is_yes(given, param="X-Session-Done") if given else bool(control)
