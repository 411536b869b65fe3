"""A model that answers anything in any dialect with the same few words, for tests that are about requests."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
_HEAD = {"id": "c", "created": 1, "model": "m"}
_MESSAGES = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 3},
    "content": [{"type": "text", "text": "Hello"}], "input_tokens": 7,
}  # fmt: skip
_RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m",
    "output": [{"type": "message", "id": "i", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "Hello", "annotations": []}]}],
    "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
}  # fmt: skip
_PLAIN: dict[str, Any] = {
    "/v1/chat/completions": {
        **_HEAD, "object": "chat.completion", "usage": _USAGE,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    },
    "/v1/completions": {
        **_HEAD, "object": "text_completion", "usage": _USAGE,
        "choices": [{"index": 0, "finish_reason": "stop", "text": "Hello"}],
    },
    "/v1/embeddings": {
        "object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    },
    "/v1/messages": _MESSAGES,
    "/v1/responses": _RESPONSE,
}  # fmt: skip
_STREAMS: dict[str, list[Any]] = {
    "/v1/chat/completions": [
        {**_HEAD, "object": "chat.completion.chunk",
         "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}]},
        {**_HEAD, "object": "chat.completion.chunk", "usage": _USAGE,
         "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        "[DONE]",
    ],
    "/v1/completions": [_PLAIN["/v1/completions"], "[DONE]"],
    "/v1/messages": [
        {"type": "message_start", "message": {**_MESSAGES, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ],
    "/v1/responses": [
        {"type": "response.created", "sequence_number": 0, "response": {**_RESPONSE, "output": []}},
        {"type": "response.completed", "sequence_number": 1, "response": _RESPONSE},
    ],
}  # fmt: skip


async def _answer(request: web.Request) -> web.Response:
    body = json.loads(await request.read())
    if body.get("stream") is not True or request.path not in _STREAMS:
        return web.json_response(_PLAIN.get(request.path, _MESSAGES))
    events = "".join(f"{_name(event)}data: {_data(event)}\n\n" for event in _STREAMS[request.path])
    return web.Response(text=events, content_type="text/event-stream")


def _name(event: Any) -> str:
    return f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""


def _data(event: Any) -> str:
    return event if isinstance(event, str) else json.dumps(event)


@asynccontextmanager
async def patient_model() -> AsyncGenerator[str]:
    """Its base URL."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
