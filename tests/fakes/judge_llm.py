"""A model that judges, behind a real OpenAI-compatible HTTP endpoint: it answers what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True)
class JudgeModel:
    """``reply`` makes an answer's text from the request; an integer is answered as that HTTP status."""

    reply: Callable[[dict[str, Any]], str | int]
    usage: tuple[int, int] | None = None
    finish_reason: str = "stop"
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    most_at_once: int = 0
    _now: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0.05)
        self._now -= 1
        reply = self.reply(body)
        if isinstance(reply, int):
            return web.json_response({"error": {"message": "no", "type": "x", "code": "y"}}, status=reply)
        message = {"role": "assistant", "content": reply}
        usage = {}
        if self.usage is not None:
            usage = {"usage": {"prompt_tokens": self.usage[0], "completion_tokens": self.usage[1]}}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
             "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}], **usage}
        )  # fmt: skip


@asynccontextmanager
async def judge_model(
    reply: Callable[[dict[str, Any]], str | int],
    *,
    usage: tuple[int, int] | None = None,
    finish_reason: str = "stop",
) -> AsyncIterator[JudgeModel]:
    model = JudgeModel(reply, usage, finish_reason)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", model.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield model
    finally:
        await runner.cleanup()
