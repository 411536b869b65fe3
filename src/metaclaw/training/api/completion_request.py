"""What a client asks of ``/v1/completions``, checked.

Owns the fields, the forms of a prompt and their limits; refuses to know weights and answers. Invariant: as for chats,
what would change the answer and is not served is refused; a prompt is never cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from metaclaw.errors import ContextLengthError, InvalidRequestError
from metaclaw.rendering.tokenizer import Tokenizer
from metaclaw.training.api.chat_request import MAX_CHOICES, MAX_TOP_LOGPROBS, StreamOptions, refuse_unserved
from metaclaw.training.api.wire import Int64, Seed, parse
from metaclaw.training.commands import Generate

_DEFAULT_MAX_TOKENS = 16  # OpenAI's own

Prompts = str | list[str] | list[int] | list[list[int]]


class CompletionRequest(BaseModel):
    """The body. ``top_k``, ``prompt_logprobs`` and ``return_token_ids`` are vLLM's names."""

    model_config = ConfigDict(extra="allow")

    model: str
    prompt: Prompts
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int64 | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = False
    stop: str | list[str] | None = None
    seed: Seed | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    suffix: str | None = None
    return_token_ids: bool = False

    @property
    def num_choices(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def num_scored(self) -> int | None:
        """How many of the likeliest tokens are wanted for each of the prompt's; ``None``: no log-probs of it at all."""
        wanted = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return max((count for count in wanted if count is not None), default=None)


def parse_completion_request(body: bytes) -> CompletionRequest:
    """``body`` as a request. Raises ``InvalidRequestError`` that names the parameter."""
    asked = parse(CompletionRequest, body)
    refuse_unserved(asked.model_extra or {})
    if asked.suffix:
        raise InvalidRequestError("suffix is not supported: this server's models only continue text", param="suffix")
    if asked.best_of not in (None, asked.num_choices):
        raise InvalidRequestError("best_of must equal n: every answer that is made is returned", param="best_of")
    if not 1 <= asked.num_choices <= MAX_CHOICES:
        raise InvalidRequestError(f"n is {asked.n}; it must be 1 to {MAX_CHOICES}", param="n")
    if asked.max_tokens is not None and asked.max_tokens < (0 if asked.echo else 1):
        raise InvalidRequestError("max_tokens must be at least 1 (0 with echo)", param="max_tokens")
    if "" in asked.stops:
        raise InvalidRequestError("stop holds an empty string", param="stop")
    for name in ("logprobs", "prompt_logprobs"):
        if not 0 <= (getattr(asked, name) or 0) <= MAX_TOP_LOGPROBS:
            raise InvalidRequestError(f"{name} must be 0 to {MAX_TOP_LOGPROBS}", param=name)
    if asked.prompt_logprobs is not None and asked.stream:
        raise InvalidRequestError("prompt_logprobs are not streamed; leave stream out", param="prompt_logprobs")
    return asked


def prompts_of(asked: CompletionRequest, tokenizer: Tokenizer, vocab_size: int) -> list[list[int]]:
    """The prompts as tokens. In a text that is no chat, special tokens written out are special tokens."""
    given: Any = asked.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    prompts = [tokenizer.encode(each) if isinstance(each, str) else list(each) for each in given]
    if not prompts or not all(prompts):
        raise InvalidRequestError("prompt is empty", param="prompt")
    if len(prompts) * asked.num_choices > MAX_CHOICES:
        raise InvalidRequestError(f"prompts times n may be at most {MAX_CHOICES}", param="prompt")
    if not all(0 <= token < vocab_size for prompt in prompts for token in prompt):
        raise InvalidRequestError(f"prompt holds tokens beyond the vocabulary of {vocab_size}", param="prompt")
    return prompts


def completion_command(asked: CompletionRequest, prompt: list[int], max_context: int) -> Generate:
    """The sampler's command for one prompt; ``max_tokens`` beyond the context is cut to what fits."""
    wanted = _DEFAULT_MAX_TOKENS if asked.max_tokens is None else asked.max_tokens
    room = max_context - len(prompt)
    if room < min(wanted, 1):
        raise ContextLengthError(
            f"the prompt has {len(prompt)} tokens; this model reads at most {max_context}, the answer included",
            param="prompt",
        )
    return Generate(
        adapter_id=None,
        prompt=np.asarray(prompt, dtype=np.int32),
        num_samples=asked.num_choices,
        max_tokens=min(wanted, room),
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_k=-1 if asked.top_k is None else asked.top_k,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop_strings=asked.stops,
        prompt_logprobs=asked.num_scored is not None or wanted == 0,  # there must be something to wait for
        topk_prompt_logprobs=asked.num_scored or 0,
        topk_sample_logprobs=asked.logprobs or 0,
        full_logprobs="none" if asked.logprobs is None else "live",
    )
