"""Continuous batching: requests join and leave the running batch between steps.

Owns the order of work (waiting, prefill, ready, running) and the frames that answer requests; refuses to know
processes, adapters' names and how a command arrived. Invariants: a request is answered exactly once, by ``ok`` or
``error``; requests begin in the order of arrival; at most one chunk of prompts is read between two decode steps;
one request's failure ends that request alone.
"""

# pyright: basic

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaclaw.errors import EngineError
from metaclaw.training.failures import error_body
from metaclaw.training.samplers.draw import Draws, draw, topk_logprobs
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.kv_cache import RowCache
from metaclaw.training.samplers.prefill import Prefill
from metaclaw.training.samplers.requests import Request, Sample

Frame = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much is done at once. A place is one token's keys and values."""

    max_rows: int
    max_places: int  # rows times the longest row, as if every answer reached its limit
    prefill_tokens: int  # of one chunk while answers are running: it delays them
    prefill_tokens_idle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A sample with its first token, waiting for a row; its prompt lies in ``prefill``'s cache."""

    sample: Sample
    prefill: Prefill
    row: int


class Decoder:
    """Runs many requests at once. Not thread-safe: one thread owns the model."""

    def __init__(self, forward: ForwardPass, budget: Budget, *, on_end: Callable[[Request], None]) -> None:
        self._forward = forward
        self._budget = budget
        self._on_end = on_end
        self._open: dict[int, Request] = {}
        self._waiting: deque[Request] = deque()
        self._prefill: Prefill | None = None
        self._ready: deque[_Ready] = deque()
        self._running: list[Sample] = []  # sample i has row i of the cache
        self._cache = RowCache(forward.device)
        self._frames: list[Frame] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._open[request.frame_id] = request
        if request.max_tokens == 0 and not request.wants_prompt:
            self._end_all_samples(request)
        else:
            self._waiting.append(request)

    def cancel(self, frame_id: int) -> None:
        """End a request now; one that has ended already is left alone."""
        request = self._open.get(frame_id)
        if request is not None:
            self._end(request, {"ok": {"cancelled": True}})
            self._forget_ended()

    def step(self) -> None:
        """One chunk of prompts, if any, and one token for every running sample."""
        self._advance_prefill()
        self._admit()
        if self._running:
            self._decode()
        self._forget_ended()

    def collect(self) -> list[Frame]:
        """The frames made since the last call."""
        frames, self._frames = self._frames, []
        return frames

    # Prefill

    def _advance_prefill(self) -> None:
        if self._prefill is None:
            group = self._next_group()
            if not group:
                return
            self._prefill = Prefill(group, self._forward)
        prefill = self._prefill
        try:
            prefill.advance(self._prefill_tokens)
        except Exception as error:  # noqa: BLE001 - the job boundary: a prompt that fails must not end the others
            self._prefill = None
            self._prefill_failed(prefill.requests, error)
            return
        if prefill.is_done:
            self._prefill = None
            self._start_samples(prefill)

    @property
    def _prefill_tokens(self) -> int:
        return self._budget.prefill_tokens if self._running else self._budget.prefill_tokens_idle

    def _next_group(self) -> list[Request]:
        """The next waiting requests that fit into one chunk together, half of it at least being no padding."""
        free = self._budget.max_rows - len(self._running) - len(self._ready)
        group: list[Request] = []
        longest = total = 0
        while self._waiting and len(group) < free:
            request = self._waiting[0]
            length = len(request.prompt)
            padded = (len(group) + 1) * max(longest, length)
            if group and (padded > self._prefill_tokens or padded > 2 * (total + length)):
                break
            if (group and (request.runs_alone or group[0].runs_alone)) or not self._has_room([*group, request]):
                break
            group.append(self._waiting.popleft())
            longest, total = max(longest, length), total + length
        return group

    def _has_room(self, requests: Sequence[Request]) -> bool:
        held = [*self._running, *(ready.sample for ready in self._ready)]
        if not held and len(requests) == 1:
            return True
        num_rows = len(held) + sum(request.num_open for request in requests)
        longest = max(request.final_length for request in (*requests, *(sample.request for sample in held)))
        return min(num_rows, self._budget.max_rows) * longest <= self._budget.max_places

    def _prefill_failed(self, requests: Sequence[Request], error: Exception) -> None:
        alive = [request for request in requests if not request.is_over]
        if len(requests) == 1:
            for request in alive:
                self._fail(request, error)
            return
        for request in reversed(alive):  # find out who it was
            request.runs_alone = True
            self._waiting.appendleft(request)

    def _start_samples(self, prefill: Prefill) -> None:
        started: list[_Ready] = []
        for row, request in enumerate(prefill.requests):
            if request.is_over or not self._answer_prompt(prefill, row, request):
                continue
            if request.max_tokens == 0:
                self._end_all_samples(request)
            else:
                started += [_Ready(sample=sample, prefill=prefill, row=row) for sample in request.samples]
        if started:
            logits = torch.stack([prefill.last_logits(ready.row) for ready in started])
            ended = self._take_tokens([ready.sample for ready in started], logits)
            self._ready.extend(ready for ready, is_ended in zip(started, ended, strict=True) if not is_ended)

    def _answer_prompt(self, prefill: Prefill, row: int, request: Request) -> bool:
        scores = prefill.scores(row)
        if scores is None:
            return True
        if scores.is_broken:
            self._fail(request, _broken(request))
            return False
        self._frames.append({"id": request.frame_id, **scores.event()})
        return True

    # Decoding

    def _admit(self) -> None:
        while self._ready and len(self._running) < self._budget.max_rows:
            ready = self._ready.popleft()
            if ready.sample.request.is_over:
                continue
            try:
                self._cache.append_from(ready.prefill.cache, ready.row, len(ready.sample.request.prompt))
            except (MemoryError, RuntimeError) as error:
                self._cache.lengths.pop()
                self._fail(ready.sample.request, error)
                continue
            self._running.append(ready.sample)

    def _decode(self) -> None:
        tokens = torch.tensor([[sample.last_token] for sample in self._running])
        slots = [sample.request.slot for sample in self._running]
        try:
            logits = self._forward.run(tokens, slots, self._cache, keep=[0])[:, 0]
        except Exception as error:  # noqa: BLE001 - the job boundary: the loop serves what comes next
            self._decode_failed(error)
            return
        ended = self._take_tokens(self._running, logits)
        for row in range(len(ended) - 1, -1, -1):
            if ended[row]:
                self._drop_row(row)

    def _decode_failed(self, error: Exception) -> None:
        """Out of memory is blamed on the longest row; nothing else can be blamed on one row."""
        if _is_out_of_memory(error):
            longest = max(range(len(self._running)), key=lambda row: self._cache.lengths[row])
            self._fail(self._running[longest].request, error)
            return
        _log.exception("a decode step over %d rows failed", len(self._running))
        for sample in self._running:
            self._fail(sample.request, error)

    def _take_tokens(self, samples: Sequence[Sample], logits_BV: Tensor) -> list[bool]:
        """Draw a token for every sample and send it; returns which samples have ended."""
        settings = [sample.request.settings for sample in samples]
        try:
            draws = draw(logits_BV, settings, [sample.uniform() for sample in samples])
            tokens = _TokenEvents(draws, logits_BV, samples)
        except Exception as error:  # noqa: BLE001 - the job boundary: the loop serves what comes next
            _log.exception("drawing for %d rows failed", len(samples))
            for sample in samples:
                self._fail(sample.request, error)
            return [True] * len(samples)
        return [self._take_token(sample, tokens, row) for row, sample in enumerate(samples)]

    def _take_token(self, sample: Sample, tokens: _TokenEvents, row: int) -> bool:
        request = sample.request
        if request.is_over:  # another sample of it has just failed
            return True
        if tokens.is_broken(row):
            self._fail(request, _broken(request))
            return True
        try:
            reason = sample.take(tokens.token(row))
        except Exception as error:  # noqa: BLE001 - the job boundary: a tokenizer may choke on one answer
            self._fail(request, error)
            return True
        self._frames.append({"id": request.frame_id, **tokens.event(row)})
        if reason is not None:
            self._end_sample(sample, reason)
        return reason is not None

    def _drop_row(self, row: int) -> None:
        self._cache.drop(row)
        last = self._running.pop()
        if row < len(self._running):
            self._running[row] = last

    # Endings

    def _end_all_samples(self, request: Request) -> None:
        for sample in request.samples:
            self._end_sample(sample, "length")

    def _end_sample(self, sample: Sample, reason: str) -> None:
        request = sample.request
        self._frames.append(
            {"id": request.frame_id, "event": "finished", "sample": sample.index, "stop_reason": reason}
        )
        request.num_open -= 1
        if request.num_open == 0:
            self._end(request, {"ok": {}})

    def _fail(self, request: Request, error: Exception) -> None:
        if not request.is_over:
            _log.warning("generation %d failed: %s: %s", request.frame_id, type(error).__name__, error)
            self._end(request, {"error": error_body(_told(error))})

    def _end(self, request: Request, answer: Frame) -> None:
        request.is_over = True
        del self._open[request.frame_id]
        self._frames.append({"id": request.frame_id, **answer})
        self._on_end(request)

    def _forget_ended(self) -> None:
        """Give back what requests still hold that were cancelled or failed."""
        for row in range(len(self._running) - 1, -1, -1):
            if self._running[row].request.is_over:
                self._drop_row(row)
        if any(ready.sample.request.is_over for ready in self._ready):
            self._ready = deque(ready for ready in self._ready if not ready.sample.request.is_over)
        if any(request.is_over for request in self._waiting):
            self._waiting = deque(request for request in self._waiting if not request.is_over)
        if self._prefill is not None and all(request.is_over for request in self._prefill.requests):
            self._prefill = None


class _TokenEvents:
    """The ``tokens`` events of one step."""

    def __init__(self, draws: Draws, logits_BV: Tensor, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._tokens = draws.tokens_B.cpu().numpy().astype(np.int32)
        self._logprobs = draws.logprobs_B.cpu().numpy()
        self._logprobs_full = draws.logprobs_full_B.cpu().numpy()
        self._broken = draws.broken_B.tolist()
        k = max(sample.request.topk_sample for sample in samples)
        self._topk = [part.cpu().numpy() for part in topk_logprobs(logits_BV, k)] if k else []

    def token(self, row: int) -> int:
        return int(self._tokens[row])

    def is_broken(self, row: int) -> bool:
        return self._broken[row]

    def event(self, row: int) -> dict[str, Any]:
        sample, this = self._samples[row], slice(row, row + 1)
        fields: dict[str, Any] = {
            "event": "tokens", "sample": sample.index, "tokens": self._tokens[this],
            "logprobs": self._logprobs[this], "logprobs_full": self._logprobs_full[this],
        }  # fmt: skip
        k = sample.request.topk_sample
        if k:
            fields["topk_tokens"] = self._topk[0][this, :k].astype(np.int32)
            fields["topk_logprobs"] = self._topk[1][this, :k]
        return fields


def _broken(request: Request) -> EngineError:
    who = f"adapter {request.adapter_id!r}" if request.adapter_id else "the base model"
    return EngineError(f"{who} gave logits that are not numbers; its weights have diverged or overflow")


def _is_out_of_memory(error: Exception) -> bool:
    # torch has no class of its own for a CPU allocation that failed.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _told(error: Exception) -> Exception:
    if not _is_out_of_memory(error):
        return error
    return EngineError(
        "not enough memory for this generation; use a shorter prompt, fewer samples or a smaller max_tokens"
    )
