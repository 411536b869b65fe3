"""Which names a server answers to.

Owns the check of the ``Host`` header; refuses to know routes. Invariant: a web page that points a name of its own at
this machine (DNS rebinding) reaches nothing, even with a token; what a browser may read of our answers is nothing
anyway, because no answer has a CORS header.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from metaclaw.config import is_loopback
from metaclaw.http.errors import Dialect, error_body

_OPEN = "/healthz"  # probes come by all names

_is_loopback = lru_cache(maxsize=256)(is_loopback)  # every request asks, nearly always about the same name


class KnownHosts:
    """ASGI middleware. ``allowed`` are names beside those of this machine itself, in lower case."""

    def __init__(self, app: ASGIApp, *, allowed: Collection[str], dialect: Callable[[Request], Dialect]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != _OPEN:
            host = _host(scope)
            if host and host not in self._allowed and not _is_loopback(host):
                message = (
                    f"this server is not known as {host[:200]!r}; if it should be, add the name to proxy.allowed_hosts"
                )
                dialect = self._dialect(Request(scope))
                body = error_body(dialect, status=403, message=message, code="host_not_allowed")
                await JSONResponse(body, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host(scope: Scope) -> str:
    """The name without its port; empty when there is none (HTTP/1.0)."""
    value = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").strip().lower()
    if value.startswith("["):
        return value.partition("]")[0].removeprefix("[")
    return value.partition(":")[0].removesuffix(".")
