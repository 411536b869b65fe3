"""A model that costs nothing: 200 words at once, or as a stream, one event a word.

``python -m benchmarks.stub_model PORT [GAP_MS]``. Raw ASGI, so that it is far faster than what is measured before it.
"""

from __future__ import annotations

import asyncio
import json
import sys
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
_MESSAGE = {"role": "assistant", "content": "".join(WORDS)}
_ANSWER = json.dumps(
    {
        "id": "c", "object": "chat.completion", "created": 1, "model": "stub", "usage": _USAGE,
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
    }
).encode()  # fmt: skip


def make_app(gap_s: float) -> Any:
    """The model; a stream's words come ``gap_s`` apart."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        body = await read(receive)
        if b'"stream":true' not in body.replace(b" ", b""):
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": _ANSWER})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for event in _EVENTS:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.sleep(gap_s)
        await send({"type": "http.response.body", "body": _END})

    return app


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
