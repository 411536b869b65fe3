"""Who a request says it is from.

Owns the places where clients say it, and their order; refuses to know what an identity is used for. Invariant: what a
client says on purpose is validated, never repaired; what is only derived from something (a user's name, a line in
a prompt) counts when it is a valid id, and is nothing otherwise; and a token that is bound to an agent is that agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import field

from metaclaw.chat.dialect import ClientRequest
from metaclaw.chat.dialects import RESPONSES
from metaclaw.chat.messages import JsonObject, object_or_none, text_or_none
from metaclaw.errors import ForbiddenError, InvalidRequestError
from metaclaw.fixed import fixed
from metaclaw.gateway.control_keys import Controls
from metaclaw.gateway.runtime_line import RuntimeLine, find_runtime_line
from metaclaw.identity import DEFAULT_AGENT, agent_id, run_id, session_id

# The first that is there counts. Claude Code, opencode and Codex were seen to send theirs; Codex's session has several
# threads when agents of it begin others. `x-session-affinity` is none: nanobot has one for each of its processes.
_SESSION_HEADERS = ("x-session-id", "x-claude-code-session-id", "thread-id", "session-id")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = "0" * 32
_OF_USER_ID = re.compile(r"user_\w*_session_([0-9a-f-]{36})")


@fixed
class Evidence:
    """What a request shows of its sender. ``headers`` has lower-case names or is case-blind.

    ``metadata`` and ``runtime`` are what is found in the request.
    """

    headers: Mapping[str, str]
    path_agent: str | None
    request: ClientRequest
    controls: Controls
    bound_agent: str | None  # the agent of the token
    metadata: JsonObject = field(init=False)
    runtime: RuntimeLine | None = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        object.__setattr__(self, "metadata", object_or_none(request.body.get("metadata")) or {})
        object.__setattr__(self, "runtime", find_runtime_line(request.dialect, request.messages))


def claimed_agent(evidence: Evidence) -> str:
    """The agent. Raises ``InvalidRequestError``, and ``ForbiddenError`` for another one than the token's."""
    said = _said_agents(evidence)
    if evidence.bound_agent is not None:
        require_own_agent(evidence.bound_agent, said)
        return evidence.bound_agent
    if said:
        return said[0]
    for hint in (evidence.request.body.get("user"), evidence.runtime and evidence.runtime.agent):
        if valid := _if_valid(hint, agent_id):
            return valid
    return DEFAULT_AGENT


def require_own_agent(bound: str, said: list[str]) -> None:
    """Raise ``ForbiddenError`` when somebody says to be another agent than the token's."""
    if others := [agent for agent in said if agent != bound]:
        raise ForbiddenError(f"this token is agent {bound!r}'s alone, and cannot be used as {others[0]!r}")


def claimed_session(evidence: Evidence) -> str | None:
    """The session, ``None`` when the client names none. Raises ``InvalidRequestError``."""
    for name in _SESSION_HEADERS:
        if given := evidence.headers.get(name):
            return session_id(given)
    if found := _if_valid(_session_of_user_id(evidence.metadata.get("user_id")), session_id):
        return found
    if evidence.controls.session_id:
        return session_id(evidence.controls.session_id)
    if found := _if_valid(_kept_conversation(evidence.request), session_id):
        return found
    runtime = evidence.runtime
    return None if runtime is None else _if_valid(runtime.session_id or runtime.session_key, session_id)


def previous_response(request: ClientRequest) -> str | None:
    """The id of the response that a client which leaves its history to the provider goes on from."""
    return text_or_none(request.body.get("previous_response_id")) if request.dialect == RESPONSES.name else None


def _kept_conversation(request: ClientRequest) -> object:
    if request.dialect != RESPONSES.name:
        return None
    kept = request.body.get("conversation")
    return (object_or_none(kept) or {"id": kept}).get("id")


def session_key(evidence: Evidence) -> str | None:
    """OpenClaw's address of the conversation, which says what kind of session it is."""
    return evidence.headers.get("x-session-key") or (evidence.runtime and evidence.runtime.session_key)


def claimed_run(evidence: Evidence) -> str | None:
    """The client's own id of what it is doing."""
    given = evidence.headers.get("x-run-id")
    return run_id(given) if given else None


def claimed_trace(evidence: Evidence) -> str | None:
    """The trace (W3C ``traceparent``) that the request is part of; what is malformed is, as the standard says, none."""
    found = _TRACEPARENT.fullmatch(evidence.headers.get("traceparent", "").strip())
    return found[1] if found and found[1] != _NO_TRACE else None


def _said_agents(evidence: Evidence) -> list[str]:
    of_body = evidence.metadata.get("agent_id")
    said = (evidence.headers.get("x-agent-id"), evidence.path_agent, of_body if isinstance(of_body, str) else None)
    return [agent_id(agent) for agent in said if agent]


def _session_of_user_id(value: object) -> object:
    # Claude Code writes a JSON object into the string; its older releases user_..._account_..._session_UUID.
    if not isinstance(value, str):
        return None
    if found := _OF_USER_ID.fullmatch(value):
        return found[1]
    if not value.startswith("{"):
        return None
    try:
        return (object_or_none(json.loads(value)) or {}).get("session_id")
    except (ValueError, RecursionError):
        return None


def _if_valid(value: object, check: Callable[[str], str]) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        return check(value)
    except InvalidRequestError:
        return None
