"""One answer of a chat while it is made: from the sampler's events to what a client sees.

Owns the answer's parts, its log-probs and the policy record; refuses to know HTTP, streams and the other answers.
Invariant: what is shown is what the tokens say without special tokens and without a stop string, and the policy
record holds every token that was sampled, exactly as it was.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metaclaw.rendering.answer_reader import AnswerReader, Parts, Span
from metaclaw.rendering.calls import ToolCall
from metaclaw.rendering.renderer import Renderer
from metaclaw.training.api.codec import TopK
from metaclaw.training.api.sampling import Finished, Tokens
from metaclaw.training.commands import Generate


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCall:
    """A tool call as a client may refer to it."""

    index: int
    call_id: str
    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one event adds to a choice."""

    thinking: str = ""
    text: str = ""
    calls: list[NamedCall] = field(default_factory=list[NamedCall])
    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Choice:
    """One answer. ``reader`` is its own; ``new_call_id`` names its tool calls."""

    def __init__(
        self,
        index: int,
        renderer: Renderer,
        reader: AnswerReader,
        end_tokens: frozenset[int],
        new_call_id: Callable[[], str],
        *,
        wants_logprobs: bool = False,
    ) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.thinking = ""
        self.text = ""
        self.calls: list[NamedCall] = []
        self.logprobs: list[dict[str, Any]] = []
        self._renderer = renderer
        self._reader = reader
        self._end_tokens = end_tokens
        self._new_call_id = new_call_id
        self._wants_logprobs = wants_logprobs
        self.num_cached = 0  # tokens of the prompt that were known from an earlier request
        self._parts: list[Tokens] = []
        self._stop_reason: str | None = None
        self._late_logprobs: list[np.ndarray] | None = None  # at temperature 1, where they came with the end
        self._spans: list[Span] = []

    @property
    def has_started(self) -> bool:
        return bool(self._parts)

    def add(self, event: Tokens) -> Delta:
        """Take the next tokens."""
        self._parts.append(event)
        tokens = event.tokens.tolist()
        return self._grown(self._reader.push(tokens), tokens, self._logprobs(event) if self._wants_logprobs else [])

    def finish(self, event: Finished) -> Delta:
        """The end: what was held back is shown, unless a stop string has ended the text."""
        parts = self._reader.finish()
        self.num_cached = event.cached_tokens
        self._spans = self._reader.spans()
        self._late_logprobs = None if event.logprobs_full is None else [event.logprobs_full]
        delta = self._grown(parts, [], [])
        self._stop_reason = self.finish_reason = "stop" if self._reader.has_stopped else event.stop_reason
        if self.calls and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"
        return delta

    def tokens(self) -> np.ndarray:
        return _joined([part.tokens for part in self._parts], "<i4")

    def num_thinking(self) -> int:
        """How many tokens were thinking."""
        return sum(end - start for kind, start, end in self._spans if kind == "think")

    def policy_record(self, model: str, command: Generate) -> dict[str, Any]:
        """The record of this answer (docs/interfaces.md, section 1)."""
        return {
            "model": model,
            "prompt_tokens": _base64(command.prompt.astype("<i4")),
            "tokens": _base64(self.tokens()),
            "logprobs": _base64(_joined([part.logprobs for part in self._parts], "<f4")),
            "logprobs_full": _base64(_joined(self._late_logprobs or [p.logprobs_full for p in self._parts], "<f4")),
            "temperature": command.temperature,
            "top_p": command.top_p,
            "top_k": command.top_k,
            "seed": command.seed,
            "stop_reason": self._stop_reason,
            "spans": self._spans,
            "renderer": self._renderer.digest,
        }

    def _grown(self, parts: Parts, tokens: list[int], logprobs: list[dict[str, Any]]) -> Delta:
        named = [
            NamedCall(index=len(self.calls) + place, call_id=self._new_call_id(), call=call)
            for place, call in enumerate(parts.calls)
        ]
        self.thinking += parts.thinking
        self.text += parts.text
        self.calls.extend(named)
        self.logprobs.extend(logprobs)
        return Delta(thinking=parts.thinking, text=parts.text, calls=named, tokens=tokens, logprobs=logprobs)

    def _logprobs(self, event: Tokens) -> list[dict[str, Any]]:
        """OpenAI's entries, at temperature 1. The token that ends an answer is not part of its content."""
        entries: list[dict[str, Any]] = []
        for place, (token, logprob) in enumerate(zip(event.tokens.tolist(), event.logprobs_full.tolist(), strict=True)):
            if token not in self._end_tokens:
                entries.append({**self._entry(token, logprob), "top_logprobs": self._top(event.topk, place)})
        return entries

    def _top(self, topk: TopK | None, place: int) -> list[dict[str, Any]]:
        if topk is None:
            return []
        pairs = zip(topk.tokens[place].tolist(), topk.logprobs[place].tolist(), strict=True)
        return [self._entry(token, logprob) for token, logprob in pairs]

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        content = self._renderer.token_bytes(token)
        return {"token": content.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(content)}


def _joined(parts: list[np.ndarray], dtype: str) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
