"""The OpenAI-compatible endpoint: ``/v1/chat/completions`` and ``/v1/models``.

Owns the flow of one chat request; refuses to know the sampler's process and the shape of answers (``chat_answer``).
Invariant: an error that is known before the first token has a status of its own; a later one is an event inside the
stream; and when the client leaves, the generation stops.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from metaclaw.errors import MetaClawError
from metaclaw.http.errors import error_answer
from metaclaw.http.sse import DONE, ClientLeftError, ForwardingResponse, encode_event, unless_client_leaves
from metaclaw.rendering.renderer import Renderer
from metaclaw.training.api.chat_answer import Choice, Completion
from metaclaw.training.api.chat_request import ChatRequest, chat_command, parse_chat_request
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.requests import body_of, off_loop
from metaclaw.training.api.sampling import Event, Finished, PromptScored, Sampling
from metaclaw.training.commands import Generate, WorkerReady

_READY_S = 30.0  # a restarting sampler is waited for; a client that waits longer is better served elsewhere
_MAX_LISTED = 1000
_CLIENT_LEFT = 499  # for the access log; there is nobody who would read it


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIRoutes:
    """Handlers under ``/v1``."""

    sampling: Sampling
    registry: Registry
    renderer: Renderer
    clock: Callable[[], float]

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/models", self.models, methods=["GET"], response_model=None)
        router.add_api_route("/chat/completions", self.chat, methods=["POST"], response_model=None)
        return router

    async def models(self) -> JSONResponse:
        """The base model, then the sampler checkpoints, the latest first."""
        max_context = (await self.sampling.ready(_READY_S)).max_context
        found, _ = await self.registry.checkpoints.latest(kind="sampler_weights", limit=_MAX_LISTED)
        names = [(self.sampling.base.name, 0), *((str(each.path), int(each.created_at)) for each in found)]
        data = [
            {"id": name, "object": "model", "created": created, "owned_by": "metaclaw", "max_context": max_context}
            for name, created in names
        ]
        return JSONResponse({"object": "list", "data": data})

    async def chat(self, request: Request) -> Response:
        asked = await off_loop(parse_chat_request, await body_of(request))
        ready = await self.sampling.ready(_READY_S)
        checkpoint = await self.sampling.resolve(asked.model)
        prompt = await asyncio.to_thread(
            self.renderer.render, asked.messages, asked.shown_tools, max_tokens=ready.max_context
        )
        command = chat_command(asked, prompt, ready.max_context)
        name = self.sampling.base.name if checkpoint is None else str(checkpoint.path)
        completion = self._completion(asked, name, command, ready)
        self.sampling.admit()
        generation = _Generation(self.sampling, self.sampling.stream(checkpoint, command))
        if not asked.stream:
            return await _whole(request.receive, generation, completion)
        return await _streamed(request.receive, generation, completion)

    def _completion(self, asked: ChatRequest, name: str, command: Generate, ready: WorkerReady) -> Completion:
        choices = [
            Choice(index, self.renderer, ready.end_tokens, stops=asked.stops, wants_logprobs=bool(asked.logprobs))
            for index in range(asked.num_choices)
        ]
        return Completion(
            completion_id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(self.clock()),
            model=name,
            command=command,
            choices=choices,
            wants_logprobs=bool(asked.logprobs),
            wants_token_ids=asked.return_token_ids,
            wants_policy_record=asked.return_policy_record,
            wants_usage=asked.includes_usage,
        )


class _Generation:
    """A generation that was admitted, and must be closed whatever happens."""

    def __init__(self, sampling: Sampling, events: AsyncGenerator[Event]) -> None:
        self.events = events
        self._sampling = sampling
        self._is_open = True

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._sampling.release()
            await self.events.aclose()


class _ClosingChunks:
    """The chunks of a stream. Closing them ends the generation, also when no chunk was ever asked for."""

    def __init__(self, chunks: AsyncGenerator[bytes], generation: _Generation) -> None:
        self._chunks = chunks
        self._generation = generation

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        await self._chunks.aclose()
        await self._generation.close()


async def _whole(receive: Receive, generation: _Generation, completion: Completion) -> Response:
    try:
        await unless_client_leaves(receive, _collect(generation.events, completion))
    except ClientLeftError:
        return Response(status_code=_CLIENT_LEFT)
    finally:
        await generation.close()
    return JSONResponse(completion.whole())


async def _collect(events: AsyncGenerator[Event], completion: Completion) -> None:
    async for event in events:
        _take(event, completion)


async def _streamed(receive: Receive, generation: _Generation, completion: Completion) -> Response:
    try:
        # Whatever refuses the request does so before the first token: until then it can be a status.
        first = await unless_client_leaves(receive, anext(generation.events))
    except ClientLeftError:
        await generation.close()
        return Response(status_code=_CLIENT_LEFT)
    except BaseException:
        await generation.close()
        raise
    return ForwardingResponse(_ClosingChunks(_chunks(first, generation.events, completion), generation))


async def _chunks(first: Event, events: AsyncGenerator[Event], completion: Completion) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(_with_first(first, events)) as all_events:
            async for event in all_events:
                chunk = _take(event, completion)
                if chunk is not None:
                    yield encode_event(json.dumps(chunk))
        last = completion.last_chunk()
        if last is not None:
            yield encode_event(json.dumps(last))
        yield DONE
    except MetaClawError as error:
        yield encode_event(json.dumps(error_answer(error, "openai").body))


async def _with_first(first: Event, others: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    yield first
    async for event in others:
        yield event


def _take(event: Event, completion: Completion) -> dict[str, Any] | None:
    """Add ``event`` to its choice; return the stream's chunk for it, if it has anything to say."""
    if isinstance(event, PromptScored):
        return None
    choice = completion.choices[event.sample]
    is_first = not choice.has_started
    delta = choice.finish(event) if isinstance(event, Finished) else choice.add(event)
    says_something = bool(
        delta.text or is_first or choice.finish_reason or delta.logprobs or completion.wants_token_ids
    )
    return completion.chunk(choice, delta, is_first=is_first) if says_something else None
