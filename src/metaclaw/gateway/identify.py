"""Who is calling: agent, session, kind of turn, run.

Owns the order in which sources are asked; refuses to know what identity is used for. Invariant: the same
conversation keeps its session.

Limits of the fallback session, which is made of the first human message and what precedes it: two conversations that
begin with the very same words under the same system prompt are one session, and a client whose system prompt
changes on every request has a session per request. A client that can should send ``X-Session-Id``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metaclaw import identity
from metaclaw.chat.humans import human_identity, is_human
from metaclaw.chat.messages import JsonObject, freeze
from metaclaw.errors import InvalidRequestError
from metaclaw.journal.turns import TurnKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a request shows of its sender. ``headers`` has lower-case names or is case-blind."""

    headers: Mapping[str, str]
    path_agent: str | None
    messages: list[JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose turn this is.

    ``run`` and ``trace`` are the client's own ids of what it is doing, by which its turns are grouped into exchanges.
    """

    agent: str
    session: str
    kind: TurnKind
    run: str | None = None
    trace: str | None = None


Source = Callable[[Evidence], str | None]

# The first source that knows wins. Further ones (a client's own headers, its metadata) are added here.
_AGENT_SOURCES: tuple[Source, ...] = (
    lambda evidence: evidence.headers.get("x-agent-id"),
    lambda evidence: evidence.path_agent,
)
_SESSION_SOURCES: tuple[Source, ...] = (lambda evidence: evidence.headers.get("x-session-id"),)


def identify(evidence: Evidence) -> Caller:
    """The caller; raises ``InvalidRequestError`` for an id that is not valid, rather than repair it."""
    agent = identity.agent_id(_first(_AGENT_SOURCES, evidence) or identity.DEFAULT_AGENT)
    given = _first(_SESSION_SOURCES, evidence)
    session = identity.session_id(given) if given else _session_of(evidence.messages)
    return Caller(
        agent=agent,
        session=session,
        kind=_kind(evidence.headers.get("x-turn-type")),
    )


def _first(sources: tuple[Source, ...], evidence: Evidence) -> str | None:
    return next((value for source in sources if (value := source(evidence))), None)


def _kind(value: str | None) -> TurnKind:
    kind = (value or "main").strip().lower()
    if kind not in ("main", "side"):
        raise InvalidRequestError(f"X-Turn-Type must be 'main' or 'side', not {value!r:.80}", param="X-Turn-Type")
    return kind


def _session_of(messages: list[JsonObject]) -> str:
    digest = hashlib.sha256()
    for message in messages:
        if is_human(message):
            digest.update(human_identity(message))
            break
        digest.update(freeze(message).hash)
    return f"auto-{digest.hexdigest()[:32]}"
