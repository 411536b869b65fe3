"""Who is calling: agent, session, kind of turn, exchange.

Owns the order in which sources are asked; refuses to know what identity is used for. Invariant: the same
conversation keeps its session; a request that ends with the human's message begins an exchange, and every turn of the
tool loop after it belongs to that exchange.

Limits of the fallback session, which is made of the first human message and what precedes it: two conversations that
begin with the very same words under the same system prompt are one session, and a client whose system prompt
changes on every request has a session per request. A client that can should send ``X-Session-Id``.

Limits of the exchange: a loop whose answers the client rewrites is told from another one that began with the very same
words, after the same answer, only by which was last; and a request within a loop that is sent again stays in its
exchange, whose last answer is then the one that is judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metaclaw import identity
from metaclaw.chat.humans import human_identity, human_indexes, is_human
from metaclaw.chat.messages import JsonObject, answer_identity, freeze
from metaclaw.errors import InvalidRequestError
from metaclaw.journal.turns import TurnKind

_OF_A_LOOP = ("assistant", "tool", "function")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a request shows of its sender. ``headers`` has lower-case names or is case-blind."""

    headers: Mapping[str, str]
    path_agent: str | None
    messages: list[JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose turn this is.

    ``exchange_key`` says which human message it is about; the journal makes ids of exchanges that begin with it.
    ``continues`` is the identity of the answer that the turn goes on from, ``None`` when it begins an exchange.
    """

    agent: str
    session: str
    exchange_key: str
    continues: bytes | None
    kind: TurnKind


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
    humans = human_indexes(evidence.messages)
    last = humans[-1] if humans else -1
    return Caller(
        agent=agent,
        session=session,
        exchange_key=_exchange_key(agent, session, evidence.messages, last),
        continues=_continued_answer(evidence.messages[last + 1 :]),
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


def _exchange_key(agent: str, session: str, messages: list[JsonObject], human: int) -> str:
    # Not by the place in the history: clients with a window drop old messages in the middle of a loop.
    digest = hashlib.sha256(f"{agent}\n{session}\n".encode())
    if human >= 0:
        digest.update(human_identity(messages[human]))
    if before := _last_answer(messages[: max(human, 0)]):
        digest.update(answer_identity(before))
    return f"ex-{digest.hexdigest()[:32]}-"


def _continued_answer(after_human: list[JsonObject]) -> bytes | None:
    if not any(message["role"] in _OF_A_LOOP for message in after_human):
        return None
    return answer_identity(_last_answer(after_human) or {})


def _last_answer(messages: list[JsonObject]) -> JsonObject | None:
    return next((message for message in reversed(messages) if message["role"] == "assistant"), None)
