"""A language model behind a real HTTP endpoint, OpenAI's and Anthropic's, which does what a test tells it to.

``FakeLlm.script`` makes an ``Answer`` of each request; the default says hello. An answer can be slow, broken, cut off,
or held back until the test lets it go on.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from array import array
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes import anthropic_llm, openai_llm

Json = dict[str, Any]
BASE_MODEL = "fake-base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer. ``body`` replaces everything else; ``events`` replaces the chunks of a stream."""

    text: str = "Hello from the fake model."
    message: Json | None = None
    finish_reason: str = "stop"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    stream_type: str = "text/event-stream"
    events: tuple[Json | bytes, ...] | None = None
    hold_after: int | None = None  # chunks; then wait for ``FakeLlm.go_on``
    break_after: int | None = None  # chunks; then close the socket
    ends_with_done: bool = True


@dataclass(slots=True)
class FakeLlm:
    """The model, and what it saw."""

    script: Callable[[Json], Answer] = lambda _body: Answer()
    api_key: str = ""
    models: list[str] = field(default_factory=lambda: [BASE_MODEL])
    knows_only_its_models: bool = False
    url: str = ""
    requests: list[Json] = field(default_factory=list)
    raw_requests: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)  # a connection each
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    is_held: asyncio.Event = field(default_factory=asyncio.Event)
    was_left: asyncio.Event = field(default_factory=asyncio.Event)
    token_counts: list[Json] = field(default_factory=list)  # what was to be counted
    headers_of_counts: Mapping[str, str] = field(default_factory=dict)
    text_size: Callable[[str], int] | None = None  # of a server that counts the tokens of texts
    num_finished: int = 0
    num_model_lists: int = 0

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        self.num_model_lists += 1
        if refused := self._refused(request):
            return refused
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, self._completion, _events)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _message, lambda body, answer: anthropic_llm.stream(_message(body, answer)))

    async def responses(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(
            request, _response, lambda body, answer: openai_llm.response_events(_response(body, answer))
        )

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(
            request,
            lambda body, answer: openai_llm.completion(body, answer.text, answer.finish_reason),
            lambda body, answer: openai_llm.completion_chunks(body, answer.text, answer.finish_reason),
        )

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, lambda body, _: openai_llm.embeddings(body), lambda _, __: [])

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        self.token_counts.append(await request.json())
        return self._refused(request) or web.json_response({"input_tokens": 321}, headers=self.headers_of_counts)

    async def count_texts(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.token_counts.append(body)
        if self.text_size is None:
            return web.json_response({"error": {"message": "no such path"}}, status=404)
        counts = [self.text_size(text) for text in body["texts"]]
        return self._refused(request) or web.json_response({"object": "token_counts", "counts": counts})

    async def _answer(
        self,
        request: web.Request,
        plain: Callable[[Json, Answer], Json],
        events: Callable[[Json, Answer], list[Json | bytes]],
    ) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        self.requests.append(body)
        self.raw_requests.append(raw)
        self.headers.append(dict(request.headers))
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        if refused := self._refused(request):
            return refused
        if self.knows_only_its_models and body["model"] not in self.models:
            return web.json_response({"error": {"message": "no such model", "code": "model_not_found"}}, status=404)
        answer = self.script(body)
        if answer.body is not None or answer.status != 200:
            text = answer.body if answer.body is not None else json.dumps({"error": {"message": "no"}}).encode()
            return web.Response(
                body=text, status=answer.status, headers=answer.headers, content_type=answer.content_type
            )
        try:
            if body.get("stream"):
                told = events(body, answer) if answer.events is None else answer.events
                response = await self._stream(request, answer, told)
            else:
                if answer.hold_after is not None:
                    await self._hold()
                response = web.json_response(plain(body, answer), headers=answer.headers)
        except (asyncio.CancelledError, ConnectionError):
            self.was_left.set()
            raise
        self.num_finished += 1
        return response

    def _refused(self, request: web.Request) -> web.Response | None:
        presented = (request.headers.get("Authorization", "").removeprefix("Bearer "), request.headers.get("x-api-key"))
        if not self.api_key or self.api_key in presented:
            return None
        return web.json_response({"error": {"message": "Incorrect API key provided", "code": "bad"}}, status=401)

    def _completion(self, body: Json, answer: Answer) -> Json:
        message = answer.message or {"role": "assistant", "content": answer.text}
        choices = [
            {"index": index, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
            for index in range(body.get("n") or 1)
        ]
        result = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body.get("model", ""),
            "choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }  # fmt: skip
        if body.get("return_policy_record"):
            result["policy_record"] = policy_record(body)
        return result

    async def _stream(self, request: web.Request, answer: Answer, events: Sequence[Json | bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": answer.stream_type, **answer.headers})
        await response.prepare(request)
        for number, event in enumerate(events):
            if number == answer.hold_after:
                await self._hold()
            if number == answer.break_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(
                event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
            )
            await asyncio.sleep(0)
        if answer.ends_with_done and not request.path.endswith(("/messages", "/responses")):
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _hold(self) -> None:
        self.is_held.set()
        await self.go_on.wait()


def policy_record(body: Json) -> Json:
    """What the training server says of the tokens that it drew."""
    return {
        "model": body["model"],
        "prompt_tokens": _base64("i", [1, 2, 3]),
        "tokens": _base64("i", [4, 5]),
        "logprobs": _base64("f", [-0.5, -0.25]),
        "logprobs_full": _base64("f", [-0.75, -0.5]),
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
        "top_k": body.get("top_k", -1),
        "seed": None,
        "stop_reason": "stop",
        "spans": [["text", 0, 1], ["end", 1, 2]],
        "renderer": "ab" * 32,
    }


@asynccontextmanager
async def fake_llm(
    script: Callable[[Json], Answer] | None = None, *, tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncGenerator[FakeLlm]:
    """A running model; ``url`` ends in ``/v1``."""
    model = FakeLlm(**settings) if script is None else FakeLlm(script=script, **settings)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", model.chat)
    app.router.add_post("/v1/messages", model.messages)
    app.router.add_post("/v1/responses", model.responses)
    app.router.add_post("/v1/completions", model.completions)
    app.router.add_post("/v1/embeddings", model.embeddings)
    app.router.add_post("/v1/messages/count_tokens", model.count_tokens)
    app.router.add_post("/v1/token_counts", model.count_texts)
    app.router.add_get("/v1/models", model.list_models)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        model.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield model
    finally:
        await runner.cleanup()


def _response(body: Json, answer: Answer) -> Json:
    return openai_llm.response(body, answer.text, answer.finish_reason, answer.message)


def _message(body: Json, answer: Answer) -> Json:
    return anthropic_llm.message(body, answer.text, answer.finish_reason, answer.message)


def _events(body: Json, answer: Answer) -> list[Json | bytes]:
    def chunk(delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": body.get("model", ""),
            "choices": [choice],
        }

    words = [word + " " for word in answer.text.split(" ")]
    words[-1] = words[-1][:-1]
    events: list[Json | bytes] = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": word}) for word in words]
    events.append(chunk({}, answer.finish_reason))
    last: Json = {**chunk({}), "choices": []}
    if (body.get("stream_options") or {}).get("include_usage"):
        last["usage"] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    if body.get("return_policy_record"):
        last["policy_record"] = policy_record(body)
    return [*events, last] if "usage" in last or "policy_record" in last else events


def _base64(kind: str, values: list[Any]) -> str:
    return base64.b64encode(array(kind, values).tobytes()).decode()
