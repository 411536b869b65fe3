"""The limit: a pass-through that does nothing, on the gateway's own server and client library.

``python -m benchmarks.bare_proxy PORT UPSTREAM_PORT``.
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp

from benchmarks.stub_model import lifespan, read, serve


def make_app(upstream: str) -> Any:
    """Post on what comes, pass on what comes back."""
    sessions: list[aiohttp.ClientSession] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        headers = {"Content-Type": "application/json"}
        async with sessions[0].post(upstream + scope["path"], data=await read(receive), headers=headers) as reply:
            kept = [
                (name.lower().encode(), value.encode())
                for name, value in reply.headers.items()
                if name.lower() in ("content-type", "content-length")
            ]
            await send({"type": "http.response.start", "status": reply.status, "headers": kept})
            async for chunk in reply.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


if __name__ == "__main__":
    serve(make_app(f"http://127.0.0.1:{sys.argv[2]}"), int(sys.argv[1]))
