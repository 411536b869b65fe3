"""From the sampler's events to a chat completion.

Owns the text of each choice, its log-probs and the policy record; refuses to know HTTP and streams. Invariant: the
text is that of the tokens without special tokens and without a stop string, and the policy record holds every
token that was sampled, exactly as it was.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaclaw.rendering.renderer import Renderer
from metaclaw.rendering.stops import StopCutter
from metaclaw.training.api.codec import TopK
from metaclaw.training.api.sampling import Finished, Tokens
from metaclaw.training.commands import Generate


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one event adds to a choice."""

    text: str
    tokens: list[int]
    logprobs: list[dict[str, Any]]


class Choice:
    """One answer while it is made."""

    def __init__(
        self,
        index: int,
        renderer: Renderer,
        end_tokens: Sequence[int],
        *,
        stops: Sequence[str] = (),
        wants_logprobs: bool = False,
    ) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.text = ""
        self.logprobs: list[dict[str, Any]] = []
        self._renderer = renderer
        self._wants_logprobs = wants_logprobs
        self._end_tokens = frozenset(end_tokens)
        self._detokenizer = renderer.detokenizer()
        self._cutter = StopCutter(stops)
        self._parts: list[Tokens] = []
        self.num_cached = 0  # tokens of the prompt that were known from an earlier request
        self._late_logprobs: list[np.ndarray] | None = None  # at temperature 1, where they came with the end

    @property
    def has_started(self) -> bool:
        return bool(self._parts)

    def add(self, event: Tokens) -> Delta:
        """Take the next tokens."""
        tokens = event.tokens.tolist()
        shown = [token for token in tokens if token not in self._end_tokens]
        self._parts.append(event)
        text = self._cutter.push(self._detokenizer.push(shown))
        return self._grown(text, tokens, self._logprobs(event) if self._wants_logprobs else [])

    def finish(self, event: Finished) -> Delta:
        """The end: what was held back is shown, unless a stop string has ended the text."""
        self.num_cached = event.cached_tokens
        self.finish_reason = "stop" if self._cutter.has_stopped else event.stop_reason
        self._late_logprobs = None if event.logprobs_full is None else [event.logprobs_full]
        text = self._cutter.push(self._detokenizer.finish())
        return self._grown(text + self._cutter.finish(), [], [])

    def tokens(self) -> np.ndarray:
        return _joined([part.tokens for part in self._parts], "<i4")

    def policy_record(self, model: str, command: Generate) -> dict[str, Any]:
        """The record of this answer (docs/interfaces.md, section 1)."""
        tokens = self.tokens()
        return {
            "model": model,
            "prompt_tokens": _base64(command.prompt.astype("<i4")),
            "tokens": _base64(tokens),
            "logprobs": _base64(_joined([part.logprobs for part in self._parts], "<f4")),
            "logprobs_full": _base64(_joined(self._late_logprobs or [p.logprobs_full for p in self._parts], "<f4")),
            "temperature": command.temperature,
            "top_p": command.top_p,
            "top_k": command.top_k,
            "seed": command.seed,
            "stop_reason": self.finish_reason,
            "spans": self._renderer.spans(tokens.tolist(), self._end_tokens),
            "renderer": self._renderer.digest,
        }

    def _grown(self, text: str, tokens: list[int], logprobs: list[dict[str, Any]]) -> Delta:
        self.text += text
        self.logprobs.extend(logprobs)
        return Delta(text=text, tokens=tokens, logprobs=logprobs)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What all parts of one answer share: ids, names, and what the client wants to see."""

    completion_id: str
    created: int
    model: str
    command: Generate
    choices: list[Choice]
    wants_logprobs: bool = False
    wants_token_ids: bool = False
    wants_policy_record: bool = False
    wants_usage: bool = False

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        return {
            **self._head("chat.completion"),
            "choices": [self._whole_choice(choice) for choice in self.choices],
            "usage": self._usage(),
            **self._prompt_ids(),
            **self._record(),
        }

    def chunk(self, choice: Choice, delta: Delta, *, is_first: bool) -> dict[str, Any]:
        """One piece of a stream. The first of a choice carries its role, the last its finish_reason."""
        content = (
            {"role": "assistant", "content": delta.text} if is_first else {"content": delta.text} if delta.text else {}
        )
        body: dict[str, Any] = {"index": choice.index, "delta": content, "finish_reason": choice.finish_reason}
        body["logprobs"] = {"content": delta.logprobs} if self.wants_logprobs and delta.logprobs else None
        if self.wants_token_ids:
            body["token_ids"] = delta.tokens
        prompt_ids = self._prompt_ids() if is_first and choice.index == 0 else {}
        return {**self._head("chat.completion.chunk"), "choices": [body], **prompt_ids}

    def last_chunk(self) -> dict[str, Any] | None:
        """What comes after every choice has ended, if the client asked for it."""
        if not (self.wants_usage or self.wants_policy_record):
            return None
        usage = {"usage": self._usage()} if self.wants_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [], **usage, **self._record()}

    def _whole_choice(self, choice: Choice) -> dict[str, Any]:
        body: dict[str, Any] = {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "finish_reason": choice.finish_reason,
            "logprobs": {"content": choice.logprobs, "refusal": None} if self.wants_logprobs else None,
        }
        return {**body, "token_ids": choice.tokens().tolist()} if self.wants_token_ids else body

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.completion_id, "object": kind, "created": self.created, "model": self.model}

    def _prompt_ids(self) -> dict[str, Any]:
        return {"prompt_token_ids": self.command.prompt.tolist()} if self.wants_token_ids else {}

    def _record(self) -> dict[str, Any]:
        if not self.wants_policy_record:
            return {}
        return {"policy_record": self.choices[0].policy_record(self.model, self.command)}

    def _usage(self) -> dict[str, Any]:
        num_prompt = len(self.command.prompt)
        num_answer = sum(len(choice.tokens()) for choice in self.choices)
        return {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_answer,
            "total_tokens": num_prompt + num_answer,
            "prompt_tokens_details": {"cached_tokens": max(choice.num_cached for choice in self.choices)},
        }


def _joined(parts: list[np.ndarray], dtype: str) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
