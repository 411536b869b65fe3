"""The OpenAI-compatible endpoint: ``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``.

Owns from a request's body to the sampler's commands; refuses to know who samples (our own sampler, or a cloud behind
the bridge) and the shape of answers. Invariant: whatever depends on the length of a body or of a prompt is done in a
thread.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metaclaw.rendering.renderer import Prompt, Renderer
from metaclaw.training.api.admission import Ticket
from metaclaw.training.api.chat_answer import Completion
from metaclaw.training.api.chat_choice import Choice
from metaclaw.training.api.chat_request import ChatRequest, chat_command, parse_chat_request
from metaclaw.training.api.completion_answer import TextChoice, TextCompletion
from metaclaw.training.api.completion_request import completion_command, parse_completion_request, prompts_of
from metaclaw.training.api.generation import respond
from metaclaw.training.api.requests import body_of, off_loop, tenant_of
from metaclaw.training.api.sampling import Event
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.commands import Generate

_READY_S = 30.0  # a restarting sampler is waited for; a client that waits longer is better served elsewhere
_MAX_LISTED = 1000


class SamplerFacts(Protocol):
    """What is known of the model that samples."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_context(self) -> int: ...

    @property
    def end_tokens(self) -> tuple[int, ...]: ...


class Weights(Protocol):
    """Weights that can be sampled: ``str(path)`` is their name."""

    @property
    def path(self) -> object: ...

    @property
    def created_at(self) -> float: ...


W = TypeVar("W", bound=Weights)


class Sampler(Protocol[W]):
    """Everything that can be sampled at one place. ``None`` for weights is the base model."""

    @property
    def base_name(self) -> str: ...

    async def ready(self, timeout_s: float) -> SamplerFacts:
        """Raises ``UpstreamError`` (503) if it is not ready in time."""
        ...

    async def resolve(self, tenant: Tenant, model: str) -> W | None:
        """Raises ``NotFoundError``."""
        ...

    async def latest(self, tenant: Tenant, limit: int) -> Sequence[W]:
        """The newest weights first, so far as that is known here."""
        ...

    def admit(self, tenant: Tenant, command: Generate) -> Ticket:
        """Raises ``OverloadedError``."""
        ...

    def stream(self, tenant: Tenant, weights: W | None, command: Generate, /) -> AsyncGenerator[Event]: ...


@dataclass(slots=True, kw_only=True)
class SpliceCounts:
    """How many messages with recorded tokens there were since the start: for /metrics."""

    num_spliced: int = 0
    num_misses: int = 0

    def add(self, prompt: Prompt) -> None:
        self.num_spliced += prompt.num_spliced
        self.num_misses += prompt.num_splice_misses


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIRoutes(Generic[W]):
    """Handlers under ``/v1``."""

    sampling: Sampler[W]
    renderer: Renderer
    clock: Callable[[], float]
    splices: SpliceCounts = field(default_factory=SpliceCounts)

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/models", self.models, methods=["GET"], response_model=None)
        router.add_api_route("/models/{name:path}", self.model, methods=["GET"], response_model=None)
        router.add_api_route("/chat/completions", self.chat, methods=["POST"], response_model=None)
        router.add_api_route("/completions", self.complete, methods=["POST"], response_model=None)
        return router

    async def models(self, request: Request) -> JSONResponse:
        """The base model, then the sampler checkpoints, the latest first."""
        max_context = (await self.sampling.ready(_READY_S)).max_context
        found = await self.sampling.latest(tenant_of(request), _MAX_LISTED)
        data = [self._listed(each, max_context) for each in (None, *found)]
        return JSONResponse({"object": "list", "data": data})

    async def model(self, name: str, request: Request) -> JSONResponse:
        """One of them, by any name under which it can be sampled."""
        max_context = (await self.sampling.ready(_READY_S)).max_context
        return JSONResponse(self._listed(await self.sampling.resolve(tenant_of(request), name), max_context))

    async def chat(self, request: Request) -> Response:
        asked = await off_loop(parse_chat_request, await body_of(request))
        ready = await self.sampling.ready(_READY_S)
        tenant = tenant_of(request)
        weights = await self.sampling.resolve(tenant, asked.model)
        prompt = await asyncio.to_thread(self._prompt, asked, ready)
        self.splices.add(prompt)
        command = chat_command(asked, prompt.tokens, ready.max_context, self._stop_tokens(asked, ready))
        return await respond(
            request.receive,
            lambda command: self.sampling.admit(tenant, command),
            self._completion(asked, self._name(weights), prompt, command, ready),
            lambda command: self.sampling.stream(tenant, weights, command),
            is_stream=bool(asked.stream),
            headers=_splice_headers(prompt),
        )

    async def complete(self, request: Request) -> Response:
        asked = await off_loop(parse_completion_request, await body_of(request))
        ready = await self.sampling.ready(_READY_S)
        tenant = tenant_of(request)
        weights = await self.sampling.resolve(tenant, asked.model)
        prompts = await asyncio.to_thread(prompts_of, asked, self.renderer.tokenizer, ready.vocab_size)
        end_tokens = frozenset(ready.end_tokens)
        answer = TextCompletion(
            completion_id=f"cmpl-{uuid.uuid4().hex}",
            created=int(self.clock()),
            model=self._name(weights),
            asked=asked,
            renderer=self.renderer,
            commands=[completion_command(asked, prompt, ready.max_context) for prompt in prompts],
            choices=[
                TextChoice(index, self.renderer, end_tokens, asked) for index in range(len(prompts) * asked.num_choices)
            ],
            scores={},
        )
        return await respond(
            request.receive,
            lambda command: self.sampling.admit(tenant, command),
            answer,
            lambda command: self.sampling.stream(tenant, weights, command),
            is_stream=bool(asked.stream),
            headers={},
        )

    def _prompt(self, asked: ChatRequest, ready: SamplerFacts) -> Prompt:
        return self.renderer.prompt(
            asked.messages, asked.shown_tools, options=asked.chat_template_kwargs, max_tokens=ready.max_context
        )

    def _stop_tokens(self, asked: ChatRequest, ready: SamplerFacts) -> tuple[int, ...] | None:
        """With one call at most, the answer ends where the first one does. ``None``: the model's own end tokens."""
        closing = self.renderer.answer_format.closing_call_token if asked.max_calls is not None else None
        return None if closing is None else (*ready.end_tokens, closing)

    def _completion(
        self, asked: ChatRequest, name: str, prompt: Prompt, command: Generate, ready: SamplerFacts
    ) -> Completion:
        return Completion(
            completion_id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(self.clock()),
            model=name,
            command=command,
            choices=[self._choice(index, asked, prompt, ready) for index in range(asked.num_choices)],
            wants_logprobs=bool(asked.logprobs),
            wants_token_ids=asked.return_token_ids,
            wants_policy_record=asked.return_policy_record,
            wants_usage=asked.includes_usage,
        )

    def _choice(self, index: int, asked: ChatRequest, prompt: Prompt, ready: SamplerFacts) -> Choice:
        reader = self.renderer.reader(
            asked.shown_tools, end_tokens=ready.end_tokens, stops=asked.stops, starts_thinking=prompt.starts_thinking,
            max_calls=asked.max_calls,
        )  # fmt: skip
        return Choice(
            index, self.renderer, reader, frozenset(ready.end_tokens), _new_call_id, wants_logprobs=bool(asked.logprobs)
        )

    def _name(self, weights: W | None) -> str:
        return self.sampling.base_name if weights is None else str(weights.path)

    def _listed(self, weights: W | None, max_context: int) -> dict[str, object]:
        created = 0 if weights is None else int(weights.created_at)
        return {
            "id": self._name(weights), "object": "model", "created": created, "owned_by": "metaclaw",
            "max_context": max_context,
        }  # fmt: skip


def _new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def _splice_headers(prompt: Prompt) -> dict[str, str]:
    """Only where a client sent recorded tokens: to others the words would mean nothing."""
    if not prompt.num_spliced and not prompt.num_splice_misses:
        return {}
    return {"X-MetaClaw-Spliced": str(prompt.num_spliced), "X-MetaClaw-Splice-Misses": str(prompt.num_splice_misses)}
