"""Answers that come in pieces.

Owns the forwarding of chunks to a client; refuses to know what is in them.
Invariant: a chunk is sent when it comes, never held back; and when the client leaves, or the answer ends in any
other way, the producer of the chunks is closed before the response returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from typing import Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from metaclaw.deadlines import Later

T = TypeVar("T")
CLIENT_CLOSED_REQUEST = 499  # nobody reads it; logs of proxies before us may
# A task that watches the client costs more than all else that a quick answer takes, and saves an upstream nothing.
_WATCH_AFTER_S = 0.05


class ClientLeftError(Exception):
    """The client closed its connection before the answer was complete. There is nobody to tell."""


async def unless_client_leaves(receive: Receive, work: Awaitable[T]) -> T:
    """Await ``work``; cancel it and raise ``ClientLeftError`` when the client goes first.

    The request's body must have been read: from then on ``receive`` reports only the end of the connection. Nobody
    looks whether the client is there for the first ``_WATCH_AFTER_S``.
    """
    # The work is done in this task and cancelled from outside, as by ``asyncio.timeout``: a task more for each step of
    # a turn would cost more than all that the gateway does itself.
    task = asyncio.current_task()
    assert task is not None
    num_cancels = task.cancelling()
    has_left = False
    watching: asyncio.Future[None] | None = None

    def watch() -> None:
        nonlocal watching
        watching = asyncio.ensure_future(_client_left(receive))
        watching.add_done_callback(leave)

    def leave(watched: asyncio.Future[None]) -> None:
        nonlocal has_left
        if not watched.cancelled():
            watched.exception()  # looked at: a connection that cannot be asked is gone as well
            has_left = True
            task.cancel()

    timer = Later(_WATCH_AFTER_S, watch)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and task.uncancel() <= num_cancels:
            raise ClientLeftError from None
        raise
    finally:
        timer.cancel()
        if watching is not None:
            watching.remove_done_callback(leave)
            watching.cancel()


class ClosableChunks(Protocol):
    """Chunks of an answer, for example an async generator. ``aclose`` is called however the answer ends."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class ForwardingResponse(Response):
    """Sends each chunk as it comes."""

    def __init__(
        self,
        chunks: ClosableChunks,
        *,
        status: int = 200,
        content_type: str = "text/event-stream; charset=utf-8",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.chunks = chunks
        self.status_code = status
        self.background = None
        # Nginx and its kin would otherwise collect a stream before they pass it on.
        unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no", "content-type": content_type}
        self.init_headers({**unbuffered, **(headers or {})})

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.chunks):
            try:
                await unless_client_leaves(receive, self._send_all(send))
            except ClientLeftError:
                return

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self.chunks:
            if not chunk:
                continue  # an empty one would end a chunked body
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
