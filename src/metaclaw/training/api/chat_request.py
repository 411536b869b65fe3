"""What a client asks of ``/v1/chat/completions``, checked.

Owns the fields and their limits; refuses to know tokens and weights. Invariant: a field that would change the answer
and is not served is refused when it is set to anything but its neutral value; unknown fields are ignored, because
agents send many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from metaclaw.errors import ContextLengthError, InvalidRequestError
from metaclaw.training.api.wire import Int64, Seed, parse
from metaclaw.training.commands import Generate

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0, 0.0),
    "presence_penalty": (None, 0, 0.0),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "auto", "none"),
    "functions": (None, []),
    "audio": (None,),
}
MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 128  # OpenAI's own limit


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body. ``top_k``, ``chat_template_kwargs`` and the fields ``return_…`` are beyond OpenAI's."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int64 | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, bool | int | float | str] | None = None
    return_token_ids: bool = False
    return_policy_record: bool = False

    @property
    def num_choices(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def shown_tools(self) -> list[dict[str, Any]]:
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def max_calls(self) -> int | None:
        return 1 if self.parallel_tool_calls is False and self.shown_tools else None

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def parse_chat_request(body: bytes) -> ChatRequest:
    """``body`` as a request. Raises ``InvalidRequestError`` that names the parameter."""
    asked = parse(ChatRequest, body)
    refuse_unserved({**(asked.model_extra or {}), "tool_choice": asked.tool_choice})
    for name in ("max_tokens", "max_completion_tokens", "n"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            raise InvalidRequestError(f"{name} is {value}; it must be at least 1", param=name)
    if asked.num_choices > MAX_CHOICES:
        raise InvalidRequestError(f"n is {asked.n}; at most {MAX_CHOICES} are served", param="n")
    if "" in asked.stops:
        raise InvalidRequestError("stop holds an empty string", param="stop")
    if not 0 <= (asked.top_logprobs or 0) <= MAX_TOP_LOGPROBS:
        raise InvalidRequestError(f"top_logprobs must be 0 to {MAX_TOP_LOGPROBS}", param="top_logprobs")
    if asked.return_policy_record and asked.num_choices != 1:
        raise InvalidRequestError("return_policy_record needs n = 1", param="n")
    return asked


def refuse_unserved(given: Mapping[str, Any]) -> None:
    """Raise ``InvalidRequestError`` for a field that would change the answer and is not served."""
    for name, neutral in _NEUTRAL.items():
        if given.get(name) not in neutral:
            raise InvalidRequestError(f"{name} {given[name]!r:.200} is not supported by this server", param=name)


def chat_command(
    asked: ChatRequest, prompt: list[int], max_context: int, stop_tokens: tuple[int, ...] | None = None
) -> Generate:
    """The sampler's command. ``max_tokens`` beyond the context is cut to what fits: the answer then ends by length."""
    room = max_context - len(prompt)
    if room < 1:
        raise ContextLengthError(
            f"the prompt has {len(prompt)} tokens; this model reads at most {max_context}, the answer included",
            param="messages",
        )
    wanted = asked.max_completion_tokens or asked.max_tokens or room
    return Generate(
        adapter_id=None,
        prompt=np.asarray(prompt, dtype=np.int32),
        num_samples=asked.num_choices,
        max_tokens=min(wanted, room),
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_k=-1 if asked.top_k is None else asked.top_k,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop_tokens=stop_tokens,
        stop_strings=asked.stops,
        topk_sample_logprobs=asked.top_logprobs or 0 if asked.logprobs else 0,
        full_logprobs="live" if asked.logprobs else "end" if asked.return_policy_record else "none",
    )
