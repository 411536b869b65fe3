"""The least that a gateway with a journal can do: the bare pass-through, and the five things that none may leave out.

    python -m benchmarks.skeleton_proxy PORT UPSTREAM_PORT TOKEN FOLDER

It checks the token, reads the request's JSON, finds the conversation by its messages, appends a record of the turn's
opening before a byte of the answer is out, and one of its end before the client sees that end, with what was said and
used. Each is done in the shortest way that the standard library has, for this one dialect, without an error's path:
what it adds is a floor under any gateway on these libraries, not a gateway.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.stub_model import lifespan, read, serve

_KEPT = ("content-type", "content-length")


def make_app(upstream: str, token: str, folder: Path) -> Any:
    """Post on what may come, record it, pass on what comes back."""
    sessions: list[aiohttp.ClientSession] = []
    expected = f"Bearer {token}".encode()
    folder.mkdir(parents=True, exist_ok=True)
    spool = os.open(folder / "spool", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    conversations: dict[bytes, str] = {}

    def record(**fields: Any) -> None:
        os.write(spool, json.dumps(fields).encode() + b"\n")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        came = dict(scope["headers"])
        if not hmac.compare_digest(came.get(b"authorization", b""), expected):
            raise PermissionError("wrong token")
        body = await read(receive)
        request = json.loads(body)
        turn, opened_at = os.urandom(8).hex(), time.time()
        known = hashlib.blake2b(json.dumps(request["messages"]).encode(), digest_size=16).digest()
        session = conversations.setdefault(known, turn)
        record(turn=turn, session=session, opened_at=opened_at, request=request)
        said = b""
        headers = {"Content-Type": "application/json"}
        async with sessions[0].post(upstream + scope["path"], data=body, headers=headers) as reply:
            kept = [
                (name.lower().encode(), value.encode())
                for name, value in reply.headers.items()
                if name.lower() in _KEPT
            ]
            await send({"type": "http.response.start", "status": reply.status, "headers": kept})
            if reply.headers["Content-Type"] == "application/json":
                said = await reply.read()
                answer = json.loads(said)
                record(turn=turn, took_s=time.time() - opened_at, answer=answer["choices"], usage=answer["usage"])
                await send({"type": "http.response.body", "body": said})
                return
            async for chunk in reply.content.iter_any():
                said += chunk
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        record(turn=turn, took_s=time.time() - opened_at, answer=said.decode())
        await send({"type": "http.response.body", "body": b""})

    return app


if __name__ == "__main__":
    serve(make_app(f"http://127.0.0.1:{sys.argv[2]}", sys.argv[3], Path(sys.argv[4])), int(sys.argv[1]))
