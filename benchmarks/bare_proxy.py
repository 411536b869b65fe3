"""The limit: a pass-through that does nothing, on the gateway's own server and client library.

``python -m benchmarks.bare_proxy PORT UPSTREAM_PORT [posted]``. It asks as everybody does who uses the library, through
its session; ``posted``: by the gateway's own shorter way over the same connections.
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp

from benchmarks.stub_model import lifespan, read, serve
from metaclaw.upstreams.posting import Poster

HEADERS = (("Content-Type", "application/json"),)
_LIMITS = aiohttp.ClientTimeout(total=None)
_KEPT = ("Content-Type", "Content-Length", "content-type", "content-length")


def make_app(upstream: str, *, is_posted: bool) -> Any:
    """Post on what comes, pass on what comes back."""
    sessions: list[aiohttp.ClientSession] = []
    posters: list[Poster] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
            posters.append(Poster(sessions[0]))
        url, body = upstream + scope["path"], await read(receive)
        if is_posted:
            reply = await posters[0].post(url, HEADERS, body, limits=_LIMITS)
            assert reply is not None
        else:
            reply = await sessions[0].post(url, data=body, headers=HEADERS)
        async with reply:
            kept = [
                (name.lower().encode(), value.encode())
                for name, value in reply.headers.items()
                if name.lower() in _KEPT
            ]
            await send({"type": "http.response.start", "status": reply.status, "headers": kept})
            async for chunk in reply.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


if __name__ == "__main__":
    serve(make_app(f"http://127.0.0.1:{sys.argv[2]}", is_posted="posted" in sys.argv[3:]), int(sys.argv[1]))
