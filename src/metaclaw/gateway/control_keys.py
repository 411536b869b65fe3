"""What a client may say to us inside a request's body.

Owns the keys that are meant for us and not for the model; refuses to know what they are used for. Invariant: a key
that is read here is never sent on.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError

_TEXTS = ("session_id", "turn_type", "memory_scope", "user_id", "workspace_id")
_KEYS = frozenset((*_TEXTS, "session_done"))
_YES, _NO = frozenset(("1", "true", "yes", "on")), frozenset(("0", "false", "no", "off", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What a body said to us."""

    session_id: str | None = None
    turn_type: str | None = None
    memory_scope: str | None = None
    user_id: str | None = None
    workspace_id: str | None = None
    session_done: bool | None = None


_NOTHING = Controls()


def take_controls(body: JsonObject) -> tuple[Controls, JsonObject]:
    """What ``body`` says to us, and the body without it (itself when there is nothing). ``InvalidRequestError``."""
    if _KEYS.isdisjoint(body):
        return _NOTHING, body
    texts = {name: _text(body, name) for name in _TEXTS}
    controls = Controls(**texts, session_done=_session_done(body.get("session_done")))
    return controls, {key: value for key, value in body.items() if key not in _KEYS}


def is_yes(value: str, *, param: str) -> bool:
    """A switch as headers write it. Raises ``InvalidRequestError``."""
    lowered = value.strip().lower()
    if lowered not in _YES | _NO:
        raise InvalidRequestError(f"{param} must be one of 1, true, yes, on or 0, false, no, off", param=param)
    return lowered in _YES


def _text(body: JsonObject, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"{name!r} must be a string", param=name)
    return value or None


def _session_done(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | str):
        return is_yes(str(value), param="session_done")
    raise InvalidRequestError("'session_done' must be true or false", param="session_done")
