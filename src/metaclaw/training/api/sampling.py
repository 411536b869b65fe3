"""Sampling from the base model or a checkpoint: what both the Tinker routes and the OpenAI endpoint stand on.

Owns the names of what can be sampled, admission, and the sampler's events as values; refuses to know tokenizers and
dialects. Invariant: no more requests wait than were allowed, and leaving the stream early stops the generation.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metaclaw.errors import InvalidRequestError, NotFoundError
from metaclaw.training.api.adapters import Adapters
from metaclaw.training.api.admission import Admission, Load, Ticket
from metaclaw.training.api.checkpoints import CheckpointStore
from metaclaw.training.api.codec import TopK
from metaclaw.training.api.records import Checkpoint, parse_path
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.api.workers import Worker
from metaclaw.training.commands import Generate, WorkerReady

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)

_MAX_NAMED = 1000  # checkpoints that are searched for a name

StopReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The one model that this server serves: how clients may call it, and where it is."""

    name: str
    aliases: frozenset[str]
    directory: str
    num_parameters: int | None = None

    @property
    def public_name(self) -> str:
        """What it is called beyond this machine: its hub id, or the name of its folder."""
        return self.name if _HUB_ID.fullmatch(self.name) else Path(self.directory).name

    def check(self, name: str) -> None:
        """Raise ``InvalidRequestError`` unless ``name`` means this model."""
        if name != self.name and name not in self.aliases:
            raise InvalidRequestError(f"base model {name[:200]!r} is not served here; this server serves {self.name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptScored:
    """Log-probs of the prompt's tokens, NaN at the first."""

    logprobs: np.ndarray | None
    topk: TopK | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The next tokens of one sample. ``logprobs`` as drawn, ``logprobs_full`` at temperature 1."""

    sample: int
    tokens: np.ndarray
    logprobs: np.ndarray
    logprobs_full: np.ndarray
    topk: TopK | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A sample is complete. ``logprobs_full`` are those of all its tokens, where they did not come with the tokens.

    ``cached_tokens`` of the prompt were known from an earlier request.
    """

    sample: int
    stop_reason: StopReason
    logprobs_full: np.ndarray | None = None
    cached_tokens: int = 0


Event = PromptScored | Tokens | Finished


class Sampling:
    """Everything that can be sampled here."""

    def __init__(
        self,
        sampler: Worker,
        adapters: Adapters,
        checkpoints: CheckpointStore,
        base: BaseModel,
        admission: Admission,
    ) -> None:
        self.base = base
        self.checkpoints = checkpoints
        self._sampler = sampler
        self._adapters = adapters
        self.max_open = admission.limits["sampling"].requests
        self._admission = admission

    @property
    def base_name(self) -> str:
        return self.base.name

    async def latest(self, tenant: Tenant, limit: int) -> list[Checkpoint]:
        """The newest sampler checkpoints that ``tenant`` may use."""
        mine = self.checkpoints.registry.for_(tenant).checkpoints
        found, _ = await mine.latest(kind="sampler_weights", limit=limit, with_published=True)
        return found

    async def resolve(self, tenant: Tenant, model: str) -> Checkpoint | None:
        """The checkpoint that ``model`` names, ``None`` for the base model; ``NotFoundError`` says what exists.

        A name with a version (``agent@7``) is the tenant's only sampler checkpoint of that name: which version an
        agent is on is not known here.
        """
        if model == self.base.name or model in self.base.aliases:
            return None
        if model.startswith("tinker://"):
            path = parse_path(model)
            if path.kind == "sampler_weights":
                return await self.checkpoints.get(tenant, path)
            raise InvalidRequestError(
                f"{model} is a training state; sample from a sampler_weights checkpoint", param="model"
            )
        mine = self.checkpoints.registry.for_(tenant).checkpoints
        if "@" in model:
            own, _ = await mine.latest(kind="sampler_weights", limit=_MAX_NAMED)
            named = [checkpoint for checkpoint in own if checkpoint.path.name == model]
            if len(named) > 1:
                paths = ", ".join(str(checkpoint.path) for checkpoint in named[:3])
                raise InvalidRequestError(
                    f"{model[:200]!r} names several checkpoints: use a path ({paths})", param="model"
                )
            if named:
                return named[0]
        latest, _ = await mine.latest(kind="sampler_weights", limit=3, with_published=True)
        known = ", ".join(repr(name) for name in (self.base.name, *(str(checkpoint.path) for checkpoint in latest)))
        raise NotFoundError(f"model {model[:200]!r} does not exist here; there is {known}")

    def admit(self, tenant: Tenant, command: Generate) -> Ticket:
        """Count a request in until the ticket is released. Raises ``OverloadedError`` when it is too much now."""
        longest = max(command.max_tokens, 1)
        if self._sampler.max_context:  # what runs into the end of the context stops there
            longest = min(longest, max(self._sampler.max_context - len(command.prompt), 1))
        load = Load(requests=1, tokens=len(command.prompt) + command.num_samples * longest)
        return self._admission.take("sampling", tenant, tenant.key_id, load)

    async def ready(self, timeout_s: float) -> WorkerReady:
        """What the sampler says of the loaded model. Raises ``UpstreamError`` (503) if it is not ready in time."""
        return await self._sampler.ready(timeout_s)

    async def stream(self, tenant: Tenant, checkpoint: Checkpoint | None, command: Generate) -> AsyncGenerator[Event]:
        """The events of ``command`` on the weights of ``checkpoint``, in the time of ``tenant``."""
        async with self._adapters.lease(checkpoint) as lease:
            bound = replace(command, adapter_id=lease.adapter_id)
            async with aclosing(
                self._sampler.stream(bound, generation=lease.generation, share=tenant.key_id)
            ) as frames:
                async for frame in frames:
                    yield _event(frame)


def _event(frame: dict[str, Any]) -> Event:
    if frame["event"] == "prompt":
        return PromptScored(logprobs=frame.get("logprobs"), topk=_topk(frame))
    if frame["event"] == "finished":
        full = frame.get("logprobs_full")
        return Finished(
            sample=frame["sample"], stop_reason=frame["stop_reason"], logprobs_full=full,
            cached_tokens=frame.get("cached_tokens", 0),
        )  # fmt: skip
    return Tokens(
        sample=frame["sample"],
        tokens=frame["tokens"],
        logprobs=frame["logprobs"],
        logprobs_full=frame["logprobs_full"],
        topk=_topk(frame),
    )


def _topk(frame: dict[str, Any]) -> TopK | None:
    tokens, logprobs = frame.get("topk_tokens"), frame.get("topk_logprobs")
    return None if tokens is None or logprobs is None else TopK(tokens=tokens, logprobs=logprobs)
