"""What the path of a request says before any route is found.

Owns in which shape its sender knows errors, and what is wrong with a base URL that leads nowhere; refuses to know what
routes do. Invariant: a path alone is looked at, and the one header that tells Anthropic's clients from others.
"""

from __future__ import annotations

import re
from collections.abc import Container

from starlette.requests import Request

from metaclaw.chat.dialects import DIALECTS
from metaclaw.http.errors import Dialect

_AGENT = re.compile(r"^/agents/[^/]+(?=/)")
_OF_ANTHROPIC = re.compile(r"/v1/messages(/|$)")
_OF_BOTH = re.compile(r"/v1/models(/|$)")
_HEALTH = frozenset(("/", "/health", "/v1/health", "/v1/healthz"))
_KNOWN = frozenset(("/models", *(dialect.path for dialect in DIALECTS.values())))


def error_dialect(request: Request) -> Dialect:
    """The shape of errors."""
    return error_dialect_of(request.scope["path"], request.headers)


def error_dialect_of(path: str, headers: Container[str] = ()) -> Dialect:
    """The shape of errors of a request for ``path`` with headers of these names."""
    path = _AGENT.sub("", path)
    is_anthropic = _OF_ANTHROPIC.match(path) or (_OF_BOTH.match(path) and "anthropic-version" in headers)
    return "anthropic" if is_anthropic else "openai"


def hint(path: str) -> str:
    """What whoever set up a client that asks for an unknown ``path`` got wrong; empty when nobody knows."""
    path = _AGENT.sub("", path)
    if path.startswith("/v1/v1/"):
        return ": the client's base URL has one '/v1' too many; Anthropic's clients add it themselves"
    if path in _HEALTH:
        return ": GET /healthz says whether the gateway answers"
    return ": the client's base URL must end in '/v1'" if path in _KNOWN else ""
