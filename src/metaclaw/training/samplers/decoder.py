"""Continuous batching: requests join and leave the running batch between steps.

Owns the order of work (waiting, reading, ready, running); refuses to know processes, adapters' names and how a
command arrived. Invariants: a step is one pass over the next token of every running answer and, beside them, as much
of waiting prompts as does not hold the answers up; requests of one share begin in the order of arrival; one
request's failure ends that request alone.
"""

# pyright: basic

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from metaclaw.training.samplers.answers import Answers, Frame
from metaclaw.training.samplers.attention import Segment
from metaclaw.training.samplers.fair_queue import FairQueue
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.kv_rows import KvRow
from metaclaw.training.samplers.pace import ChunkLimits, Pace, Running
from metaclaw.training.samplers.prefill import Reading
from metaclaw.training.samplers.requests import Request, Sample
from metaclaw.training.samplers.rows import RowLimits, Rows
from metaclaw.training.shared_device import is_out_of_memory

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Prompt:
    """A prompt that has been read, and how many samples have yet to go on from it."""

    row: KvRow
    num_waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A sample with its first token, waiting for a row of its own."""

    sample: Sample
    prompt: _Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    sample: Sample
    row: KvRow


_Chunk = tuple[Reading, int]  # and how many tokens of it


class Decoder:
    """Runs many requests at once. Not thread-safe: one thread owns the model."""

    def __init__(
        self, forward: ForwardPass, limits: RowLimits, chunks: ChunkLimits, *, on_end: Callable[[Request], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._forward = forward
        self._max_rows = limits.max_rows
        self._clock = clock
        self._answers = Answers(on_end)
        self._rows = Rows(limits, forward.device)
        self._pace = Pace(chunks)
        self._max_scored = chunks.scored
        self._waiting = FairQueue()
        self._reading: list[Reading] = []
        self._ready: deque[_Ready] = deque()
        self._running: list[_Running] = []

    @property
    def is_busy(self) -> bool:
        """Whether a step would do anything."""
        return self._answers.is_any_open

    @property
    def spare_s(self) -> float:
        """How much time between two steps nobody would notice."""
        return self._pace.spare_s(_counted(self._running)) / 4

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._answers.open(request)
        if request.max_tokens == 0 and not request.wants_prompt:
            self._answers.end_all_samples(request)
        else:
            self._waiting.add(request)

    def cancel(self, frame_id: int) -> None:
        """End a request now; one that has ended already is left alone."""
        request = self._answers.find(frame_id)
        if request is not None:
            self._answers.end(request, {"ok": {"cancelled": True}})
            self._forget_ended()

    def forget_slot(self, slot: int) -> None:
        """Nothing more will be asked of the adapter in ``slot``."""
        self._rows.forget_slot(slot)

    def let_go(self) -> bool:
        """Give up what is only kept, for want of memory; whether anything was."""
        return self._rows.let_go()

    def step(self) -> None:
        """One token for every running sample, and the next chunk of prompts, if any."""
        self._begin_waiting()
        self._admit()
        self._advance()
        if self._answers.has_ended:
            self._forget_ended()

    def collect(self) -> list[Frame]:
        """The frames made since the last call."""
        return self._answers.collect()

    def has_failed(self) -> bool:
        """Whether a request failed since the last call."""
        failed, self._answers.has_failed = self._answers.has_failed, False
        return failed

    # Waiting to reading

    def _begin_waiting(self) -> None:
        while len(self._waiting) and len(self._held()) + len(self._reading) < self._max_rows:
            in_use = [*self._held(), *(sample for one in self._reading for sample in one.request.samples)]
            request = self._waiting.next(sample.request.share for sample in in_use)
            assert request is not None
            reserved = sum(sample.request.final_length for sample in in_use)
            if not self._rows.make_room(reserved, request):
                return
            self._waiting.remove(request)
            try:
                row = self._rows.begin(request, self._rows_with(request.slot))
            except (MemoryError, RuntimeError) as error:
                self._answers.fail(request, error)
                continue
            self._reading.append(Reading(request, row))

    def _held(self) -> list[Sample]:
        return [*(one.sample for one in self._running), *(one.sample for one in self._ready)]

    def _rows_with(self, slot: int) -> Iterable[KvRow]:
        yield from (one.row for one in self._running if one.sample.request.slot == slot)
        yield from (one.row for one in self._reading if one.request.slot == slot)

    # Ready to running

    def _admit(self) -> None:
        began, spare_s = self._clock(), self._pace.spare_s(_counted(self._running))
        while self._ready and len(self._running) < self._max_rows:
            ready = self._ready.popleft()
            try:
                self._running.append(_Running(sample=ready.sample, row=self._own_row(ready)))
            except (MemoryError, RuntimeError) as error:
                self._answers.fail(ready.sample.request, error)
            if self._clock() - began > spare_s:  # copying a prompt for many samples must not hold up the others
                return

    def _own_row(self, ready: _Ready) -> KvRow:
        prompt, request = ready.prompt, ready.sample.request
        prompt.num_waiting -= 1
        if prompt.num_waiting == 0:
            return prompt.row
        return self._rows.copy(prompt.row, len(request.prompt), request)

    # One pass

    def _advance(self) -> None:
        chunks = self._chunks()
        alone = [chunk for chunk in chunks if chunk[0].request.runs_alone][:1]
        if alone:  # read with others, it failed; now it can only fail itself
            self._run_pass([], alone)
            chunks = []
        if self._running or chunks:
            self._run_pass(self._running, chunks)

    def _chunks(self) -> list[_Chunk]:
        """What to read in this step: half of it at least of the oldest, then of the others in order.

        Of those to be scored no more than there is memory for: the logits of 4,096 places were 6 GB of an 8B model's.
        """
        budget = self._pace.chunk(_counted(self._running)) if self._reading else 0
        if budget == 0:
            return []
        wanted = sum(reading.num_left for reading in self._reading[1:])
        share, scored = max(budget // 2, budget - wanted, 1), self._max_scored
        chunks: list[_Chunk] = []
        for reading in self._reading:
            most = min(share, scored) if reading.scores is not None else share
            if (count := min(reading.num_left, most)) > 0:
                chunks.append((reading, count))
                budget -= count
                scored -= count if reading.scores is not None else 0
            share = budget
        return chunks

    def _run_pass(self, running: Sequence[_Running], chunks: Sequence[_Chunk]) -> None:
        running = list(running)
        segments = [
            Segment(row=one.row, tokens=(one.sample.last_token,), slot=one.sample.request.slot) for one in running
        ]
        keep, line = list(range(len(running))), len(running)
        for reading, count in chunks:
            segments.append(reading.segment(count))
            keep += [line + place for place in reading.kept(count)]
            line += count
        kept = [len(reading.kept(count)) for reading, count in chunks]
        counted, began = _counted(running), self._clock()
        try:
            logits = self._forward.run(segments, keep)
            if not running:
                self._forward.wait()
        except Exception as error:  # noqa: BLE001 - the job boundary: the loop serves what comes next
            self._pass_failed(running, chunks, error)
            return
        if running:
            self._next_tokens(running, logits[: len(running)])
        self._pace.note(self._clock() - began, counted, line - len(running))
        for (reading, count), part in zip(chunks, logits[len(running) :].split(kept), strict=True):
            self._has_read(reading, count, part)

    def _next_tokens(self, running: Sequence[_Running], logits_BV: Tensor) -> None:
        ended = self._answers.take_tokens([one.sample for one in running], logits_BV)
        if any(ended):
            for one, is_ended in zip(running, ended, strict=True):
                if is_ended:
                    self._rows.end(one.sample.request, one.row)
            self._running = [one for one, is_ended in zip(running, ended, strict=True) if not is_ended]

    def _has_read(self, reading: Reading, count: int, logits_NV: Tensor) -> None:
        request = reading.request
        if reading.scores is not None:
            try:
                reading.scores.add(reading.row.length - count, logits_NV)
            except (MemoryError, RuntimeError) as error:
                self._answers.fail(request, error)
                return
        if reading.num_left:
            return
        self._reading.remove(reading)
        if reading.scores is not None:
            if reading.scores.is_broken:
                self._answers.fail_broken(request)
                return
            self._answers.tell_prompt(request, reading.scores.event())
        if request.max_tokens == 0:
            self._answers.end_all_samples(request)
            self._rows.end(request, reading.row)
        else:
            self._start_samples(reading, logits_NV[-1])

    def _start_samples(self, reading: Reading, logits_V: Tensor) -> None:
        alive: list[Sample] = []
        samples = reading.request.samples
        for start in range(0, len(samples), self._max_rows):  # of a thousand, not all distributions at once
            group = samples[start : start + self._max_rows]
            ended = self._answers.take_tokens(group, logits_V.expand(len(group), -1))
            alive += [sample for sample, is_ended in zip(group, ended, strict=True) if not is_ended]
        if not alive:
            self._rows.end(reading.request, reading.row)
        prompt = _Prompt(row=reading.row, num_waiting=len(alive))
        self._ready.extend(_Ready(sample=sample, prompt=prompt) for sample in alive)

    # Failures and endings

    def _pass_failed(self, running: Sequence[_Running], chunks: Sequence[_Chunk], error: Exception) -> None:
        """Find out who it was: first without the prompts, which are then read one by one."""
        traceback.clear_frames(error.__traceback__)  # whose variables hold what the pass had made
        if is_out_of_memory(error) and self._rows.let_go():
            self._run_pass(running, chunks)
        elif chunks and (running or len(chunks) > 1):
            for reading, _ in chunks:
                reading.request.runs_alone = True
            if running:
                self._run_pass(running, [])
        elif chunks:
            self._answers.fail(chunks[0][0].request, error)
        elif is_out_of_memory(error):
            longest = max(running, key=lambda one: one.row.length)
            self._answers.fail(longest.sample.request, error)
        else:
            _log.exception("a decode step over %d rows failed", len(running))
            for one in running:
                self._answers.fail(one.sample.request, error)

    def _forget_ended(self) -> None:
        """Give back what requests still hold that were cancelled or failed."""
        self._answers.has_ended = False
        for one in self._running:
            if one.sample.request.is_over:
                self._rows.end(one.sample.request, one.row)
        self._running = [one for one in self._running if not one.sample.request.is_over]
        self._ready = deque(one for one in self._ready if not one.sample.request.is_over)
        self._reading = [one for one in self._reading if not one.request.is_over]
        self._waiting.forget_ended()


def _counted(running: Sequence[_Running]) -> Running:
    return Running(num_rows=len(running), num_places=sum(one.row.length for one in running))
