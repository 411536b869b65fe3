"""A model that costs nothing: 200 words at once, or as a stream, one event a word.

``python -m benchmarks.stub_model PORT [GAP_MS]``. Raw ASGI, so that it is far faster than what is measured before it.
Words in the request make it fail: ``[[500]]`` answers so, ``[[break]]`` cuts a stream after ten words. ``[[say X]]``
makes X the first word of the answer, ``[[think N]]`` takes N milliseconds before it, to a tenth of one. ``[[hold]]``
says no more than a stream's first word until the client leaves; ``GET /left`` lists when clients did, by the monotonic
clock.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import re
import sys
import threading
import time
from typing import Any

import uvicorn

WORDS = [f"word{number} " for number in range(200)]
_USAGE = {"prompt_tokens": 50, "completion_tokens": len(WORDS), "total_tokens": 50 + len(WORDS)}


def _event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


_EVENTS = [_event({"role": "assistant", "content": ""}), *(_event({"content": word}) for word in WORDS)]
_END = _event({}, "stop") + b"data: [DONE]\n\n"
_SAY = re.compile(rb"\[\[say ([^\]]*)\]\]")
_THINK = re.compile(rb"\[\[think ([\d.]+)\]\]")


def _answer(first: str) -> bytes:
    message = {"role": "assistant", "content": first + "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "stub", "usage": _USAGE}
    return json.dumps({**body, "choices": [choice]}).encode()


_ANSWER = _answer("")


class Alarm:
    """Rings on time. An event loop counts in whole milliseconds from its last round, as much as what is measured."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    async def ring(self, at: float) -> None:
        """Return at ``at`` of the monotonic clock."""
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            heapq.heappush(self._waiting, (at, next(self._numbers), future))
            self._changed.notify()
        await future

    def _run(self) -> None:
        while True:
            with self._changed:
                while (
                    left_s := self._waiting[0][0] - time.monotonic() if self._waiting else None
                ) is None or left_s > 0:
                    self._changed.wait(left_s)
                _, _, future = heapq.heappop(self._waiting)
            future.get_loop().call_soon_threadsafe(_ring, future)


def _ring(future: asyncio.Future[None]) -> None:
    if not future.done():  # whoever waited may be gone
        future.set_result(None)


def make_app(gap_s: float) -> Any:
    """The model; a stream's words come ``gap_s`` apart."""
    left: list[float] = []
    alarm = Alarm()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        if scope["path"] == "/left":
            await _plain(send, json.dumps(left).encode())
            return
        body = await read(receive)
        began_at = time.monotonic()
        if b"[[hold]]" in body:
            await _hold(receive, send, is_stream=b'"stream":true' in body.replace(b" ", b""))
            left.append(time.monotonic())
            return
        if thinking := _THINK.search(body):
            await alarm.ring(began_at + float(thinking[1]) / 1e3)
        said = _SAY.search(body)
        first = said[1].decode() + " " if said else ""
        if b"[[500]]" in body:
            await _plain(send, b'{"error": {"message": "as asked"}}', 500)
        elif b'"stream":true' in body.replace(b" ", b""):
            await _stream(send, first, gap_s, breaks=b"[[break]]" in body)
        else:
            await _plain(send, _answer(first) if first else _ANSWER)

    return app


async def _plain(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Any, first: str, gap_s: float, *, breaks: bool) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    events = [_event({"content": first}), *_EVENTS] if first else _EVENTS
    for event in events[:10] if breaks else events:
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(gap_s)
    if breaks:
        raise ConnectionAbortedError("as asked")  # the server closes the connection: the body has no end
    await send({"type": "http.response.body", "body": _END})


async def _hold(receive: Any, send: Any, *, is_stream: bool) -> None:
    if is_stream:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in _EVENTS[:2]:
            await send({"type": "http.response.body", "body": event, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def read(receive: Any) -> bytes:
    """The body of a request."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def lifespan(receive: Any, send: Any) -> None:
    """Nothing to open, nothing to close."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def serve(app: Any, port: int) -> None:
    """Run ``app`` as the gateway is run: uvloop and httptools."""
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, loop="uvloop", http="httptools"
    )


if __name__ == "__main__":
    serve(make_app(float(sys.argv[2]) / 1e3 if len(sys.argv) > 2 else 0.0), int(sys.argv[1]))
