"""Names of agents and sessions.

Owns what a valid agent or session id is; refuses to know where one came from. Invariant: an ``AgentId`` or
``SessionId`` that passed here is short, printable, and safe as one path segment and inside a model name.
"""

from __future__ import annotations

import re

from metaclaw.errors import InvalidRequestError

DEFAULT_AGENT = "main"

_AGENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BLANKS = " \t\r\n"  # of all languages' blanks only these: others make a name of their own
_SESSION = re.compile(r"[\x21-\x7e]{1,200}")


def agent_id(value: str) -> str:
    """Return ``value`` as an agent id (lower case, 1-64 of ``a-z 0-9 . _ -``).

    Raises ``InvalidRequestError`` for anything else; an id is never silently repaired, because two different
    names must never become one agent.
    """
    given = value.strip(_BLANKS)
    lowered = given.lower()
    # Asked of what was given: lower case makes an ASCII letter of some others (the sign of kelvin).
    # And some file systems drop a dot at the end of a name.
    if not given.isascii() or not _AGENT.fullmatch(lowered) or ".." in lowered or lowered.endswith("."):
        raise InvalidRequestError(
            f"agent id {value[:80]!r} is not valid: use 1-64 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit, not ending with '.'",
            param="X-Agent-Id",
        )
    return lowered


def session_id(value: str) -> str:
    """Return ``value`` as a session id (1-200 visible ASCII characters) or raise ``InvalidRequestError``."""
    return _visible(value, "session", "X-Session-Id")


def run_id(value: str) -> str:
    """Return ``value`` as the id of a run, which is like one of a session."""
    return _visible(value, "run", "X-Run-Id")


def _visible(value: str, what: str, param: str) -> str:
    stripped = value.strip(_BLANKS)
    if not _SESSION.fullmatch(stripped):
        raise InvalidRequestError(
            f"{what} id {value[:80]!r} is not valid: use 1-200 visible ASCII characters", param=param
        )
    return stripped
