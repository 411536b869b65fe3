"""Which names a server answers to.

Owns the check of the ``Host`` header; refuses to know routes. Invariant: a web page that points a name of its own at
this machine (DNS rebinding) reaches nothing, even with a token; what a browser may read of our answers is nothing
anyway, because no answer has a CORS header.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from metaclaw.config import is_loopback
from metaclaw.http.errors import Dialect, error_body

_OPEN = "/healthz"  # probes come by all names

_is_loopback = lru_cache(maxsize=256)(is_loopback)  # every request asks, nearly always about the same name


class KnownHosts:
    """ASGI middleware. ``allowed`` are names beside those of this machine itself, in lower case."""

    def __init__(self, app: ASGIApp, *, allowed: Collection[str], dialect: Callable[[Request], Dialect]) -> None:
        self._app = app
        self._allowed = allowed
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != _OPEN:
            host = asked_host(scope["headers"])
            if not is_known_host(host, self._allowed):
                await host_refusal(host, self._dialect(Request(scope)))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_known_host(host: str, allowed: Collection[str]) -> bool:
    """Whether a server answers to ``host``, by which it was asked; who asked by none is no browser."""
    return not host or host in allowed or _is_loopback(host)


def host_refusal(host: str, dialect: Dialect) -> Response:
    """The answer to who asked by a name that is not known."""
    message = f"this server is not known as {host[:200]!r}; if it should be, add the name to proxy.allowed_hosts"
    body = error_body(dialect, status=403, message=message, code="host_not_allowed")
    return JSONResponse(body, status_code=403)


def asked_host(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The name without its port in the first ``Host``; empty when there is none (HTTP/1.0)."""
    for name, value in headers:
        if name == b"host":
            return _name_of(value)
    return ""


@lru_cache(maxsize=256)
def _name_of(value: bytes) -> str:
    host = value.decode("latin-1").strip().lower()
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0].removesuffix(".")
