"""An answer that is sent at once.

Owns its headers and its two messages; refuses to know what it says. Invariant: what is sent is what was given, with its
length.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class WholeResponse(Response):
    """Starlette's, made in a fifth of the time; every turn makes one."""

    def __init__(self, body: bytes, *, content_type: str, headers: Mapping[str, str], status: int = 200) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", content_type.encode("latin-1")),
            *[(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})
