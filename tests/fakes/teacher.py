"""A teacher behind a real HTTP endpoint: its log-probabilities are a function of a token and its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from pydantic import SecretStr

from metaclaw.upstreams.upstream import Timeouts, Upstream


def plainly(token: int, place: int) -> float:
    return -0.5 - (token % 7) - 0.01 * place


def word(token: int) -> str:
    return f" w{token}"


@dataclass(slots=True)
class Teacher:
    """``speaks`` is the one form that it understands; ``fails`` is what it answers instead, by prompt, once a call."""

    speaks: Literal["prompt_logprobs", "echo", "nothing"] = "prompt_logprobs"
    logprob: Callable[[int, int], float | None] = plainly
    name_of: Callable[[int], str] = word
    fails: Callable[[list[int]], int | None] = lambda _: None
    waits: Callable[[list[int]], Awaitable[None]] | None = None  # before it answers
    reads: Callable[[list[int]], list[int]] = list  # what it takes the prompt for
    usage: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    @property
    def upstream(self) -> Upstream:
        return Upstream(
            name=f"the teacher at {self.url}", base_url=self.url, api_key=SecretStr("k"), key_setting="rl.opd.api_key",
            timeouts=Timeouts(),
        )  # fmt: skip

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        prompt: list[int] = body["prompt"]
        if self.waits is not None:
            await self.waits(prompt)
        status = self.fails(prompt)
        if status is not None:
            return web.json_response({"error": {"message": "no", "type": "x", "code": "y"}}, status=status)
        prompt = self.reads(prompt)
        choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length"}
        values = [None, *(self.logprob(token, place) for place, token in enumerate(prompt) if place)]
        if self.speaks == "prompt_logprobs" and "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [
                None if place == 0 else {
                    str(token): {"logprob": value, "rank": 3, "decoded_token": self.name_of(token)},
                    "0": {"logprob": -0.1, "rank": 1, "decoded_token": "other"},
                } | ({"0": {"logprob": value, "decoded_token": self.name_of(0)}} if token == 0 else {})
                for place, (token, value) in enumerate(zip(prompt, values, strict=True))
            ]  # fmt: skip
        if self.speaks == "echo" and body.get("echo") and body.get("logprobs"):
            drawn = 9
            choice["text"] = "".join(map(self.name_of, [*prompt, drawn]))
            choice["logprobs"] = {
                "tokens": [self.name_of(token) for token in [*prompt, drawn]], "token_logprobs": [*values, -0.3],
                "top_logprobs": None, "text_offset": [],
            }  # fmt: skip
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1, "total_tokens": len(prompt) + 1}
        return web.json_response(
            {"id": "c", "object": "text_completion", "model": body["model"], "choices": [choice]}
            | ({"usage": usage} if self.usage else {})
        )

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "first"}]})


@asynccontextmanager
async def teacher(**how: Any) -> AsyncIterator[Teacher]:
    one = Teacher(**how)
    app = web.Application()
    app.router.add_post("/v1/completions", one.answer)
    app.router.add_get("/v1/models", one.models)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield one
    finally:
        await runner.cleanup()
