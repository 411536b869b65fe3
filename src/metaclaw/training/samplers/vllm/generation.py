"""One ``Generate`` command on vLLM: which requests it takes, and the frames that answer it.

Owns the samples of a command, their stops and their two kinds of log-probs; refuses to know HTTP, adapters' names and
frames' ids. Invariants: the events are those that ``Generate`` promises, and whoever cancels the task ends every
request that it made.

vLLM knows one kind of log-probs at a time; we start it with those of the distribution drawn from. They are also those
at temperature 1 where nothing was changed (temperature 1, no truncation) and for greedy answers; otherwise the answer
is scored, which costs a forward pass over prompt and answer, and only where ``full_logprobs`` asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from metaclaw.training.commands import Array, Generate
from metaclaw.training.samplers.limits import Limits, check_command, sample_seed
from metaclaw.training.samplers.stops import Decode, StopWatch
from metaclaw.training.samplers.vllm.client import Chunk, Scores

Frame = dict[str, Any]
Emit = Callable[[Frame], None]

_GREEDY = 1e-5  # vLLM takes lower temperatures for 0
_BLOCK = 16  # tokens scored at once where log-probs at temperature 1 must come with the tokens


class Completions(Protocol):
    """What of vLLM makes and scores answers."""

    def stream(self, model: str, tokens: list[int], params: dict[str, Any]) -> AsyncGenerator[Chunk]: ...

    async def score(self, model: str, tokens: list[int], *, topk: int = 0) -> Scores: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """Runs commands. ``turn`` admits one request to vLLM at a time of its own choosing."""

    completions: Completions
    limits: Limits
    decode: Decode

    async def run(
        self, command: Generate, model: str, emit: Emit, turn: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """Answer a checked ``command`` with the weights that vLLM calls ``model``."""
        prompt: list[int] = command.prompt.tolist()
        if command.prompt_logprobs or command.topk_prompt_logprobs:
            async with turn():
                scores = await self.completions.score(model, prompt, topk=command.topk_prompt_logprobs)
            emit(_prompt_event(command, scores))
        max_tokens = min(command.max_tokens, self.limits.max_context - len(prompt))
        if max_tokens == 0:
            for index in range(command.num_samples):
                emit({"event": "finished", "sample": index, "stop_reason": "length"})
            return
        async with asyncio.TaskGroup() as group:
            for index in range(command.num_samples):
                sample = _Sample(command=command, index=index, model=model, prompt=prompt, generations=self, emit=emit)
                group.create_task(sample.run(max_tokens, turn))

    def check(self, command: Generate) -> None:
        """Raise ``InvalidRequestError`` for what cannot be run."""
        check_command(command, self.limits)


@dataclass(slots=True, kw_only=True)
class _Sample:
    """One answer while it is made."""

    command: Generate
    index: int
    model: str
    prompt: list[int]
    generations: Generations
    emit: Emit
    tokens: list[int] = field(default_factory=list[int])
    held: list[Chunk] = field(default_factory=list[Chunk])  # not told yet: their log-probs at temperature 1 lack

    async def run(self, max_tokens: int, turn: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        command = self.command
        watch = StopWatch(self._stop_tokens, command.stop_strings, self.generations.decode)
        reason = "length"
        async with turn(), aclosing(self._stream(max_tokens)) as chunks:
            async for chunk in chunks:
                last = next((place for place, token in enumerate(chunk.tokens.tolist()) if watch.is_last(token)), None)
                await self._take(chunk if last is None else _cut(chunk, last + 1))
                if last is not None:
                    reason = "stop"
                    break  # which closes the stream, and ends the request
        await self._tell_held()
        end: Frame = {"event": "finished", "sample": self.index, "stop_reason": reason}
        if self._needs_scores and command.full_logprobs == "end" and not self._scores_live:
            scores = await self._scores()
            end["logprobs_full"] = scores.logprobs[len(self.prompt) :]
        self.emit(end)

    def _stream(self, max_tokens: int) -> AsyncGenerator[Chunk]:
        command = self.command
        # One more than is asked for: the sampled token comes first among the likeliest, wherever it ranks.
        num_likeliest = 0 if self._needs_scores else command.topk_sample_logprobs
        params: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "ignore_eos": True,  # what ends an answer is in stop_token_ids
            "stop_token_ids": list(self._stop_tokens),
            "logprobs": num_likeliest + 1 if num_likeliest else 0,
        }
        if not self._is_greedy:
            params |= {"temperature": command.temperature, "top_p": command.top_p}
            if 0 < command.top_k < self.generations.limits.vocab_size:
                params["top_k"] = command.top_k
            if command.seed is not None:
                params["seed"] = sample_seed(command.seed, self.index) % 2**63
        return self.generations.completions.stream(self.model, self.prompt, params)

    async def _take(self, chunk: Chunk) -> None:
        if not len(chunk.tokens):
            return
        self.tokens += chunk.tokens.tolist()
        if not self._scores_live:
            drawn = np.zeros_like(chunk.logprobs) if self._is_greedy else chunk.logprobs
            full = np.full_like(chunk.logprobs, np.nan) if self._needs_scores else chunk.logprobs
            self._tell(chunk.tokens, drawn, full, chunk.topk_tokens, chunk.topk_logprobs)
            return
        self.held.append(chunk)
        if sum(len(each.tokens) for each in self.held) >= _BLOCK:
            await self._tell_held()

    async def _tell_held(self) -> None:
        if not self.held:
            return
        tokens = np.concatenate([chunk.tokens for chunk in self.held])
        drawn = np.concatenate([chunk.logprobs for chunk in self.held])
        self.held = []
        scores = await self._scores()
        new = slice(-len(tokens), None)
        self._tell(tokens, drawn, scores.logprobs[new], scores.topk_tokens[new], scores.topk_logprobs[new])

    async def _scores(self) -> Scores:
        """Of the prompt and the answer so far. Whoever has a turn keeps it: nothing waits for it meanwhile."""
        topk = self.command.topk_sample_logprobs
        return await self.generations.completions.score(self.model, self.prompt + self.tokens, topk=topk)

    def _tell(self, tokens: Array, drawn: Array, full: Array, topk: Array | None, topk_logprobs: Array | None) -> None:
        frame: Frame = {"event": "tokens", "sample": self.index, "tokens": tokens, "logprobs": drawn}
        frame["logprobs_full"] = full
        if self.command.topk_sample_logprobs:
            frame |= {"topk_tokens": topk, "topk_logprobs": topk_logprobs}
        self.emit(frame)

    @property
    def _stop_tokens(self) -> tuple[int, ...]:
        given = self.command.stop_tokens
        return self.generations.limits.end_tokens if given is None else given

    @property
    def _is_greedy(self) -> bool:
        return self.command.temperature < _GREEDY

    @property
    def _needs_scores(self) -> bool:
        """Whether vLLM's log-probs are not those at temperature 1."""
        command = self.command
        return not self._is_greedy and (command.temperature != 1.0 or command.top_p < 1.0 or command.top_k > 0)

    @property
    def _scores_live(self) -> bool:
        wanted = self.command.full_logprobs == "live" or self.command.topk_sample_logprobs > 0
        return self._needs_scores and wanted


def _cut(chunk: Chunk, length: int) -> Chunk:
    return Chunk(
        tokens=chunk.tokens[:length],
        logprobs=chunk.logprobs[:length],
        topk_tokens=None if chunk.topk_tokens is None else chunk.topk_tokens[:length],
        topk_logprobs=None if chunk.topk_logprobs is None else chunk.topk_logprobs[:length],
        finish_reason=chunk.finish_reason,
    )


def _prompt_event(command: Generate, scores: Scores) -> Frame:
    event: Frame = {"event": "prompt"}
    if command.prompt_logprobs:
        event["logprobs"] = scores.logprobs
    if command.topk_prompt_logprobs:
        event |= {"topk_tokens": scores.topk_tokens, "topk_logprobs": scores.topk_logprobs}
    return event
