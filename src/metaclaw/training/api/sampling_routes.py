"""Tinker: sampling sessions and samples.

Owns the translation of asample into the sampler's command and back; refuses to know chat and text. Invariant: the
log-probs of sampled tokens are those of the distribution that was drawn from, after temperature, top_k and top_p:
a loss with ``loss_fn_config.temperature`` then compares like with like. Prompt log-probs are at temperature 1.
"""

from __future__ import annotations

import uuid
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request

from metaclaw.errors import InvalidRequestError
from metaclaw.training.api import wire
from metaclaw.training.api.background import Background
from metaclaw.training.api.codec import SampledSequence, TopK, encode_samples
from metaclaw.training.api.futures import Futures, Result
from metaclaw.training.api.jobs import PROTOBUF, run_job
from metaclaw.training.api.json_dialect import sample_json
from metaclaw.training.api.records import Checkpoint, SamplingSession, parse_path
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.requests import body_of, digest_of, is_near, off_loop, tenant_of
from metaclaw.training.api.sampling import Finished, PromptScored, Sampling, Tokens
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.commands import Generate

_UNSUPPORTED = {
    "target_prompt_logprobs": "score the tokens with forward and loss_fn='cross_entropy', which takes K targets",
    "prompt_alt_tokens_k": "ask for topk_prompt_logprobs, which are not drawn but the likeliest",
    "record_stability_info": "it is for the loss 'stable_reinforce', whose formula is not published",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRoutes:
    """Handlers under ``/api/v1``."""

    sampling: Sampling
    registry: Registry
    futures: Futures
    tasks: Background

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/create_sampling_session", self.create_sampling_session, methods=["POST"])
        router.add_api_route("/samplers/{sampler_id}", self.sampler, methods=["GET"])
        router.add_api_route("/asample", self.asample, methods=["POST"])
        return router

    async def create_sampling_session(self, request: Request) -> wire.SamplingSessionMade:
        asked = wire.parse(wire.CreateSamplingSession, await body_of(request))
        tenant = tenant_of(request)
        mine = self.registry.for_(tenant)
        await mine.sessions.get(asked.session_id)
        checkpoint = await self._weights(tenant, asked.model_path, asked.base_model)
        session = SamplingSession(
            sampling_session_id=f"{asked.session_id}:sample:{asked.sampling_session_seq_id}",
            session_id=asked.session_id,
            path=None if checkpoint is None else checkpoint.path,
        )
        await mine.sampling_sessions.add(session)
        return wire.SamplingSessionMade(sampling_session_id=session.sampling_session_id)

    async def sampler(self, sampler_id: str, request: Request) -> wire.SamplerInfo:
        session = await self.registry.for_(tenant_of(request)).sampling_sessions.get(sampler_id)
        path = None if session.path is None else str(session.path)
        base = self.sampling.base
        base_model = base.name if is_near(request) else base.public_name  # the SDK reads its tokenizer by this name
        return wire.SamplerInfo(sampler_id=sampler_id, base_model=base_model, model_path=path)

    async def asample(self, request: Request) -> wire.SampleSubmitted:
        body = await body_of(request)
        asked, command = await off_loop(_parse_sample, body)
        tenant = tenant_of(request)
        checkpoint = await self._weights_of(tenant, asked)
        digest = await digest_of(body)
        identity = f"seq_id {asked.seq_id} of sampling session {asked.sampling_session_id}"
        if asked.sampling_session_id is None:
            identity = f"sample {uuid.uuid4()}"  # nothing tells a retry from a second request
        job = _SampleJob(
            tenant=tenant, checkpoint=checkpoint, command=command, num_unscored=_num_unscored(asked, command)
        )
        request_id = self.futures.find(identity, digest) or self._start(identity, digest, job)
        ids = [f"{request_id}:{index}" for index in range(asked.num_samples)]
        return wire.SampleSubmitted(request_id=request_id, sample_sequence_ids=ids)

    def _start(self, identity: str, digest: bytes, job: _SampleJob) -> str:
        ticket = self.sampling.admit(job.tenant, job.command)
        request_id = self.futures.open(job.tenant.key_id, identity, digest)
        task = self.tasks.start(run_job(self.futures, request_id, lambda: self._sample(job)))
        task.add_done_callback(lambda _: ticket.release())
        self.futures.attach(request_id, task)
        return request_id

    async def _sample(self, job: _SampleJob) -> Result:
        collected = _Collected([_Sample() for _ in range(job.command.num_samples)], job.num_unscored)
        async with aclosing(self.sampling.stream(job.tenant, job.checkpoint, job.command)) as events:
            async for event in events:
                collected.add(event)
        return Result(body=collected.encode(), media_type=PROTOBUF, as_json=sample_json)

    async def _weights_of(self, tenant: Tenant, asked: wire.SampleRequest) -> Checkpoint | None:
        if asked.sampling_session_id is None:
            return await self._weights(tenant, asked.model_path, asked.base_model)
        if asked.seq_id is None:
            raise InvalidRequestError("seq_id is needed together with sampling_session_id", param="seq_id")
        session = await self.registry.for_(tenant).sampling_sessions.get(asked.sampling_session_id)
        return None if session.path is None else await self.sampling.checkpoints.get(tenant, session.path)

    async def _weights(self, tenant: Tenant, model_path: str | None, base_model: str | None) -> Checkpoint | None:
        if base_model is not None:
            self.sampling.base.check(base_model)
        if model_path is not None:
            parse_path(model_path)
            return await self.sampling.resolve(tenant, model_path)
        if base_model is None:
            raise InvalidRequestError("send model_path or base_model")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _SampleJob:
    tenant: Tenant
    checkpoint: Checkpoint | None
    command: Generate
    num_unscored: int  # log-probs of so many tokens at the prompt's beginning are not wanted


def _num_unscored(asked: wire.SampleRequest, command: Generate) -> int:
    last_n = asked.prompt_logprobs_last_n
    if last_n is None:
        return 0
    if not asked.prompt_logprobs or not 1 <= last_n <= len(command.prompt):
        raise InvalidRequestError(
            f"prompt_logprobs_last_n is {last_n}: it takes prompt_logprobs, and 1 to {len(command.prompt)} tokens here",
            param="prompt_logprobs_last_n",
        )
    return len(command.prompt) - last_n


def _parse_sample(body: bytes) -> tuple[wire.SampleRequest, Generate]:
    asked = wire.parse(wire.SampleRequest, body)
    return asked, sample_command(asked)


def sample_command(asked: wire.SampleRequest) -> Generate:
    """The sampler's command for ``asked``. Raises ``InvalidRequestError`` for what is not served."""
    for name, reason in _UNSUPPORTED.items():
        if getattr(asked, name):
            raise InvalidRequestError(f"{name} is not supported by this server: {reason}", param=name)
    for chunk in asked.prompt.chunks:
        if chunk.type != "encoded_text":
            raise InvalidRequestError(
                f"the prompt holds a chunk of type {chunk.type!r}; this model reads text tokens only"
            )
    params = asked.sampling_params
    if params.max_tokens is not None and params.max_tokens < 1:
        raise InvalidRequestError(f"max_tokens is {params.max_tokens}; it must be at least 1", param="max_tokens")
    stop_tokens, stop_strings = _stops(params.stop)
    return Generate(
        adapter_id=None,
        prompt=_int32([token for chunk in asked.prompt.chunks for token in chunk.tokens]),
        num_samples=asked.num_samples,
        max_tokens=_LONGEST if params.max_tokens is None else params.max_tokens,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        seed=params.seed,
        stop_tokens=stop_tokens,
        stop_strings=stop_strings,
        prompt_logprobs=bool(asked.prompt_logprobs),
        topk_prompt_logprobs=asked.topk_prompt_logprobs,
        topk_sample_logprobs=asked.topk_sample_logprobs,
        full_logprobs="none",
    )


_LONGEST = 2**31 - 1  # the sampler ends at the limit of the context


def _stops(stop: str | list[str] | list[int] | None) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Stop tokens and strings. Tokens, or an empty list, replace the model's own end; strings come on top of it."""
    if stop is None:
        return None, ()
    if isinstance(stop, str):
        stop = [stop]
    strings = tuple(item for item in stop if isinstance(item, str))
    if "" in strings:
        raise InvalidRequestError("stop holds an empty string", param="stop")
    return (None, strings) if strings else (tuple(item for item in stop if isinstance(item, int)), ())


def _int32(tokens: list[int]) -> np.ndarray:
    try:
        array = np.asarray(tokens, dtype=np.int64)
    except OverflowError as error:
        raise InvalidRequestError("the prompt holds a token of more than 64 bits", param="prompt") from error
    if array.size and (array.min() < 0 or array.max() > np.iinfo(np.int32).max):
        raise InvalidRequestError("the prompt holds a token that is outside the vocabulary", param="prompt")
    return array.astype(np.int32)


@dataclass(slots=True)
class _Sample:
    tokens: list[np.ndarray] = field(default_factory=list[np.ndarray])
    logprobs: list[np.ndarray] = field(default_factory=list[np.ndarray])
    topk: list[TopK] = field(default_factory=list[TopK])
    stop_reason: str = "length"

    def sequence(self) -> SampledSequence:
        return SampledSequence(
            tokens=np.concatenate([np.empty(0, np.int32), *self.tokens]),
            logprobs=np.concatenate([np.empty(0, np.float32), *self.logprobs]),
            stop_reason=self.stop_reason,
            topk=_joined(self.topk),
        )


@dataclass(slots=True)
class _Collected:
    samples: list[_Sample]
    num_unscored: int
    num_cached: int = 0
    prompt: PromptScored = field(default_factory=lambda: PromptScored(logprobs=None, topk=None))

    def add(self, event: PromptScored | Tokens | Finished) -> None:
        match event:
            case PromptScored():
                self.prompt = event
            case Finished():
                self.samples[event.sample].stop_reason = event.stop_reason
                self.num_cached = event.cached_tokens
            case Tokens():
                sample = self.samples[event.sample]
                sample.tokens.append(event.tokens)
                sample.logprobs.append(event.logprobs)
                if event.topk is not None:
                    sample.topk.append(event.topk)

    def encode(self) -> bytes:
        logprobs = self.prompt.logprobs
        if logprobs is not None and self.num_unscored:
            logprobs = np.where(np.arange(len(logprobs)) < self.num_unscored, np.float32("nan"), logprobs)
        return encode_samples(
            [sample.sequence() for sample in self.samples], logprobs, self.prompt.topk, self.num_cached
        )


def _joined(parts: list[TopK]) -> TopK | None:
    if not parts:
        return None
    return TopK(
        tokens=np.concatenate([part.tokens for part in parts]),
        logprobs=np.concatenate([part.logprobs for part in parts]),
    )
