"""Sampling at a cloud, as the OpenAI endpoint wants it.

Owns the translation of the endpoint's commands and of the cloud's answers; refuses to know SDKs, tokenizers and HTTP.
Invariant: tokens and log-probabilities are those that the cloud gave, cut after a stop string and never changed; what
a cloud cannot tell is refused, or NaN, and never made up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaclaw.bridge.model import Facts
from metaclaw.clouds.child import SdkChild, SdkError, packed, unpacked
from metaclaw.errors import InvalidRequestError, NotFoundError, UpstreamError
from metaclaw.training.api.admission import Admission, Load, Ticket
from metaclaw.training.api.sampling import Event, Finished, PromptScored, StopReason, Tokens
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.commands import Generate
from metaclaw.training.samplers.stops import Decode, StopWatch
from metaclaw.upstreams.pulse import Pulse

_SCHEMES = ("tinker://", "weaver://")
_MAX_OPEN = 1024  # requests; the cloud has limits of its own
_STOPS: dict[str, StopReason] = {"length": "length"}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWeights:
    """Weights by the path that the cloud gave them."""

    path: str
    created_at: float = 0.0


class CloudSampling:
    """All weights of one cloud. ``decode`` makes text of tokens, for stop strings."""

    def __init__(self, child: SdkChild, pulse: Pulse, *, base_model: str, facts: Facts, decode: Decode) -> None:
        self.base_name = base_model
        self._child = child
        self._pulse = pulse
        self._facts = facts
        self._decode = decode
        self._admission = Admission(limits={"sampling": Load(requests=_MAX_OPEN)})

    async def ready(self, timeout_s: float) -> Facts:
        del timeout_s
        return self._facts

    async def resolve(self, tenant: Tenant, model: str) -> CloudWeights | None:
        del tenant
        if model == self.base_name:
            return None
        if model.startswith(_SCHEMES):
            return CloudWeights(path=model)
        raise NotFoundError(f"model {model[:200]!r} does not exist here; there is {self.base_name!r} and paths")

    async def latest(self, tenant: Tenant, limit: int) -> Sequence[CloudWeights]:
        # Which weights there are is the journal's to know; a cloud may hold others'.
        del tenant, limit
        return ()

    def admit(self, tenant: Tenant, command: Generate) -> Ticket:
        if command.topk_sample_logprobs or command.topk_prompt_logprobs:
            raise InvalidRequestError(
                "a training cloud does not tell the likeliest tokens: leave top_logprobs out", param="top_logprobs"
            )
        return self._admission.take("sampling", tenant, tenant.key_id, Load(requests=1))

    async def stream(self, tenant: Tenant, weights: CloudWeights | None, command: Generate) -> AsyncGenerator[Event]:
        """The events of ``command``: a cloud answers whole, so each sample's tokens come at once."""
        del tenant
        path = None if weights is None else weights.path
        if command.prompt_logprobs:
            yield PromptScored(logprobs=await self._score(path, command.prompt), topk=None)
        if command.max_tokens == 0:
            for index in range(command.num_samples):
                yield Finished(sample=index, stop_reason="length")
            return
        for index, sequence in enumerate(await self._sample(path, command)):
            tokens = np.frombuffer(unpacked(sequence["tokens"]), "<i4")
            logprobs = np.frombuffer(unpacked(sequence["logprobs"]), "<f4")
            length = self._length(tokens, command)
            reason = _STOPS.get(sequence["stop_reason"], "stop") if length == len(tokens) else "stop"
            tokens, logprobs = tokens[:length], logprobs[:length]
            full = await self._full(path, command, tokens, logprobs)
            yield Tokens(sample=index, tokens=tokens, logprobs=logprobs, logprobs_full=full, topk=None)
            yield Finished(sample=index, stop_reason=reason)

    async def _sample(self, path: str | None, command: Generate) -> list[dict[str, Any]]:
        # SDKs take stop tokens or stop strings, not both, and the end tokens must hold in any case.
        stop = self._facts.end_tokens if command.stop_tokens is None else command.stop_tokens
        answer = await self._asked(
            "sample", model_path=path, base_model=self.base_name, prompt=packed(command.prompt.astype("<i4")),
            num_samples=command.num_samples, max_tokens=command.max_tokens, temperature=command.temperature,
            top_p=command.top_p, top_k=command.top_k, seed=command.seed, stop=list(stop),
        )  # fmt: skip
        return answer["sequences"]

    async def _score(self, path: str | None, tokens: Array) -> Array:
        answer = await self._asked(
            "score", model_path=path, base_model=self.base_name, tokens=packed(tokens.astype("<i4"))
        )
        return np.frombuffer(unpacked(answer["logprobs"]), "<f4")

    async def _full(self, path: str | None, command: Generate, tokens: Array, logprobs: Array) -> Array:
        """Log-probabilities at temperature 1 over the whole vocabulary."""
        if command.temperature == 1 and command.top_p == 1 and command.top_k in (-1, 0):
            return logprobs
        if command.full_logprobs != "live":  # nobody sees them, and such an answer is never trained on
            return np.full(len(tokens), np.nan, "<f4")
        whole = np.concatenate([command.prompt.astype("<i4"), tokens])
        return (await self._score(path, whole))[len(command.prompt) :]

    def _length(self, tokens: Array, command: Generate) -> int:
        watch = StopWatch((), command.stop_strings, self._decode)
        for place, token in enumerate(tokens.tolist(), start=1):
            if watch.is_last(token):
                return place
        return len(tokens)

    async def _asked(self, op: str, **asked: Any) -> dict[str, Any]:
        try:
            return await self._pulse.during(self._child.call(op, **asked))
        except SdkError as error:
            if error.kind == "absent":
                raise NotFoundError(str(error)) from error
            if error.kind == "data":
                raise InvalidRequestError(str(error)) from error
            raise UpstreamError(str(error), status=401 if error.kind == "key" else 503) from error
