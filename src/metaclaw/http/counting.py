"""Answers, counted.

Owns noticing the status of every answer; refuses to know metrics and routes. Invariant: each HTTP request is told once,
also when nobody was there to take its answer, and counting changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"))

Told = Callable[[Scope, str, str], None]


class CountRequests:
    """ASGI middleware: calls ``told`` with the scope, the method (``other`` for odd ones) and the status of an answer.

    The status is ``none`` when the client left before there was an answer.
    """

    def __init__(self, app: ASGIApp, told: Told) -> None:
        self._app = app
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "none"

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._told(scope, scope["method"] if scope["method"] in _METHODS else "other", status)
