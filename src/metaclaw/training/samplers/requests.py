"""What the sampler was asked for, checked, and the state of each of its samples.

Owns one sample's random numbers, counts and stop; refuses to know batches, caches and models. Invariant: a
``Request`` that exists can be run, and its samples depend on its own seed alone.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from metaclaw.training.commands import Generate
from metaclaw.training.samplers.draw import DrawSettings
from metaclaw.training.samplers.limits import Limits, check_command, sample_seed
from metaclaw.training.samplers.stops import Decode, StopWatch


@dataclass(slots=True, kw_only=True, eq=False)
class Sample:
    """One continuation of a request's prompt, while it is made."""

    request: Request
    index: int
    generator: torch.Generator
    stops: StopWatch
    num_tokens: int = 0
    last_token: int = -1

    def uniform(self) -> float:
        """The random number of the next token; greedy samples need none."""
        if self.request.settings.is_greedy:
            return 0.0
        return float(torch.rand((), dtype=torch.float64, generator=self.generator))

    def take(self, token: int) -> str | None:
        """Add a token; returns the stop reason when it is the last one."""
        self.num_tokens += 1
        self.last_token = token
        if self.stops.is_last(token):
            return "stop"
        return "length" if self.num_tokens >= self.request.max_tokens else None


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A checked ``Generate``. ``slot`` holds the adapter; ``max_tokens`` is what fits into the context."""

    frame_id: int
    prompt: np.ndarray
    slot: int
    adapter_id: str | None
    share: str  # whose time it takes
    max_tokens: int
    settings: DrawSettings
    prompt_logprobs: bool
    topk_prompt: int
    topk_sample: int
    samples: list[Sample] = field(default_factory=list)
    num_open: int = 0  # samples that have not ended
    num_cached: int = 0  # tokens of the prompt that need not be read, being known
    is_over: bool = False  # answered, cancelled or failed
    has_failed: bool = False
    runs_alone: bool = False  # a pass together with others failed

    @property
    def wants_prompt(self) -> bool:
        return self.prompt_logprobs or self.topk_prompt > 0

    @property
    def final_length(self) -> int:
        """The most places that one of its rows can take."""
        return len(self.prompt) + self.max_tokens


class RequestReader:
    """Makes requests of commands. ``decode`` turns tokens into text; ``entropy`` gives seeds where none was sent."""

    def __init__(self, limits: Limits, *, decode: Decode, entropy: Callable[[], int]) -> None:
        self._limits = limits
        self._decode = decode
        self._entropy = entropy

    def read(self, frame_id: int, command: Generate, slot: int, *, share: str = "") -> Request:
        """Check ``command``; raises ``InvalidRequestError`` naming the parameter."""
        limits = self._limits
        prompt = check_command(command, limits)
        request = Request(
            frame_id=frame_id,
            prompt=prompt.astype(np.int32),  # as rows keep theirs
            slot=slot,
            adapter_id=command.adapter_id,
            share=share,
            max_tokens=min(command.max_tokens, limits.max_context - len(prompt)),
            settings=DrawSettings(temperature=command.temperature, top_k=command.top_k, top_p=command.top_p),
            prompt_logprobs=command.prompt_logprobs,
            topk_prompt=command.topk_prompt_logprobs,
            topk_sample=command.topk_sample_logprobs,
        )
        request.samples = self._samples(request, command)
        request.num_open = len(request.samples)
        return request

    def _samples(self, request: Request, command: Generate) -> list[Sample]:
        tokens = self._limits.end_tokens if command.stop_tokens is None else command.stop_tokens
        seed = self._entropy() if command.seed is None else command.seed
        return [
            Sample(
                request=request,
                index=index,
                generator=torch.Generator().manual_seed(sample_seed(seed, index)),
                stops=StopWatch(tokens, command.stop_strings, self._decode),
            )
            for index in range(command.num_samples)
        ]
