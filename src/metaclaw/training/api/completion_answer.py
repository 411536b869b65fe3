"""From the sampler's events to an answer of ``/v1/completions``, whole or in chunks.

Owns the text, log-probs and indexes of several prompts' answers; refuses to know HTTP. Invariant: text is the tokens'
text without special tokens and without a stop string, after the prompt's own where an echo was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metaclaw.rendering.renderer import Renderer
from metaclaw.rendering.stops import StopCutter
from metaclaw.training.api.chat_answer import usage_of
from metaclaw.training.api.codec import TopK
from metaclaw.training.api.completion_request import CompletionRequest
from metaclaw.training.api.sampling import Event, Finished, PromptScored, Tokens
from metaclaw.training.commands import Generate

Scored = tuple[int, float | None, list[tuple[int, float]]]  # a token, its log-prob, the likeliest tokens in its place


class TextChoice:
    """One answer: the text so far, and the tokens with their log-probs."""

    def __init__(self, index: int, renderer: Renderer, end_tokens: frozenset[int], asked: CompletionRequest) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.text = ""
        self.tokens: list[int] = []
        self.scored: list[Scored] = []
        self.num_cached = 0
        self.has_started = False
        self._end_tokens = end_tokens
        self._detokenizer = renderer.detokenizer()
        self._cutter = StopCutter(asked.stops)

    def add(self, event: Tokens) -> tuple[str, list[Scored]]:
        """Take the next tokens; return what they add."""
        tokens = event.tokens.tolist()
        self.tokens += tokens
        shown = [token for token in tokens if token not in self._end_tokens]
        scored = [each for each in _scored(event) if each[0] not in self._end_tokens]  # not a part of the text
        return self._grown(self._cutter.push(self._detokenizer.push(shown)), scored)

    def finish(self, event: Finished) -> tuple[str, list[Scored]]:
        """The end."""
        self.finish_reason = "stop" if self._cutter.has_stopped else event.stop_reason
        self.num_cached = event.cached_tokens
        rest = self._cutter.push(self._detokenizer.finish())
        return self._grown(rest + self._cutter.finish(), [])

    def echo(self, text: str, scored: list[Scored]) -> None:
        """Begin with the prompt."""
        self.text, self.scored = text + self.text, scored + self.scored

    def _grown(self, text: str, scored: list[Scored]) -> tuple[str, list[Scored]]:
        self.text += text
        self.scored += scored
        return text, scored


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCompletion:
    """All answers to all prompts of one request: those to prompt ``p`` begin at index ``p * n``."""

    completion_id: str
    created: int
    model: str
    asked: CompletionRequest
    renderer: Renderer
    commands: Sequence[Generate]
    choices: list[TextChoice]
    scores: dict[int, PromptScored]

    def take(self, part: int, event: Event) -> list[dict[str, Any]]:
        """Add ``event`` of prompt number ``part``; return the stream's chunks for it."""
        if isinstance(event, PromptScored):
            self.scores[part] = event
            return []
        choice = self.choices[part * self.asked.num_choices + event.sample]
        echoed, before = self._echo(choice, part)
        offset = len(choice.text)
        text, scored = choice.finish(event) if isinstance(event, Finished) else choice.add(event)
        tokens: list[int] = event.tokens.tolist() if isinstance(event, Tokens) else []
        if not (echoed or text or scored or choice.finish_reason or (tokens and self.asked.return_token_ids)):
            return []
        return [self._chunk(choice, echoed + text, [*before, *scored], tokens, offset - len(echoed))]

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        return {
            **self._head(),
            "choices": [self._choice(choice, choice.text, choice.scored, choice.tokens, 0) for choice in self.choices],
            "usage": self._usage(),
        }

    def last_chunk(self) -> dict[str, Any] | None:
        return {**self._head(), "choices": [], "usage": self._usage()} if self.asked.includes_usage else None

    def _echo(self, choice: TextChoice, part: int) -> tuple[str, list[Scored]]:
        if choice.has_started or not self.asked.echo:
            return "", []
        choice.has_started = True
        tokens = self.commands[part].prompt.tolist()
        text = self.renderer.tokenizer.decode(tokens)
        scored = _prompt_scored(tokens, self.scores.get(part))
        choice.echo(text, scored)
        return text, scored

    def _chunk(
        self, choice: TextChoice, text: str, scored: list[Scored], tokens: list[int], offset: int
    ) -> dict[str, Any]:
        return {**self._head(), "choices": [self._choice(choice, text, scored, tokens, offset)]}

    def _choice(
        self, choice: TextChoice, text: str, scored: list[Scored], tokens: list[int], offset: int
    ) -> dict[str, Any]:
        part = choice.index // self.asked.num_choices
        body: dict[str, Any] = {"index": choice.index, "text": text, "finish_reason": choice.finish_reason}
        body["logprobs"] = None if self.asked.logprobs is None else self._logprobs(scored, offset)
        if self.asked.return_token_ids:
            body |= {"token_ids": tokens, "prompt_token_ids": self.commands[part].prompt.tolist()}
        if self.asked.prompt_logprobs is not None:
            body["prompt_logprobs"] = self._prompt_logprobs(part)
        return body

    def _logprobs(self, scored: list[Scored], offset: int) -> dict[str, Any]:
        """OpenAI's old shape, at temperature 1. The sampled token is among the likeliest even where it was not."""
        names, offsets = [self._name(token) for token, *_ in scored], list[int]()
        for token, *_ in scored:
            offsets.append(offset)
            offset += len(self.renderer.tokenizer.decode([token]))
        count = self.asked.logprobs or 0
        return {
            "tokens": names,
            "token_logprobs": [logprob for _, logprob, _ in scored],
            "top_logprobs": [self._top(name, each, count) for name, each in zip(names, scored, strict=True)]
            if count
            else None,
            "text_offset": offsets,
        }

    def _top(self, name: str, scored: Scored, count: int) -> dict[str, float] | None:
        _, logprob, likeliest = scored
        if logprob is None:
            return None
        return {**{self._name(other): value for other, value in likeliest[:count]}, name: logprob}

    def _prompt_logprobs(self, part: int) -> list[dict[str, Any] | None]:
        """vLLM's shape: by token id, the first token has none. A rank is known only among the likeliest."""
        entries: list[dict[str, Any] | None] = []
        count = self.asked.prompt_logprobs or 0
        for token, logprob, likeliest in _prompt_scored(self.commands[part].prompt.tolist(), self.scores.get(part)):
            if logprob is None:
                entries.append(None)
                continue
            ranks = {other: rank for rank, (other, _) in enumerate(likeliest, start=1)}
            values = {token: logprob, **dict(likeliest[:count])}
            entries.append(
                {str(each): {"logprob": value, "rank": ranks.get(each), "decoded_token": self._name(each)}
                 for each, value in values.items()}
            )  # fmt: skip
        return entries

    def _name(self, token: int) -> str:
        content = self.renderer.token_bytes(token)
        try:
            return content.decode()
        except UnicodeDecodeError:  # OpenAI's way to write a part of a character
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.completion_id, "object": "text_completion", "created": self.created, "model": self.model,
        }  # fmt: skip

    def _usage(self) -> dict[str, Any]:
        return usage_of(
            sum(len(command.prompt) for command in self.commands),
            sum(len(choice.tokens) for choice in self.choices),
            num_cached=sum(choice.num_cached for choice in self.choices[:: self.asked.num_choices]),
        )


def _scored(event: Tokens) -> list[Scored]:
    return [
        (token, logprob, _likeliest(event.topk, place))
        for place, (token, logprob) in enumerate(zip(event.tokens.tolist(), event.logprobs_full.tolist(), strict=True))
    ]


def _prompt_scored(tokens: list[int], scores: PromptScored | None) -> list[Scored]:
    if scores is None or scores.logprobs is None:
        return []
    return [
        (token, None if math.isnan(logprob) else logprob, _likeliest(scores.topk, place))
        for place, (token, logprob) in enumerate(zip(tokens, scores.logprobs.tolist(), strict=True))
    ]


def _likeliest(topk: TopK | None, place: int) -> list[tuple[int, float]]:
    if topk is None:
        return []
    return list(zip(topk.tokens[place].tolist(), topk.logprobs[place].tolist(), strict=True))
