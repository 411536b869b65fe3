"""Steps that only go on with running answers, recorded on a GPU once and replayed.

Owns the recordings: what may be recorded, for how long one holds, and how a replay gets its tokens. Refuses to know
adapters' arithmetic and requests. Invariant: a replay computes what a step that is not recorded would have, and
where one cannot be recorded it runs as any other.

Of a step over one row of an 8B model on an H200 the processor took 45 to 70 ms to launch what the GPU does in 6. A
recording (a CUDA graph) is launched as one. It holds addresses, so it is of these rows, these adapters where they lie
now, and this many pieces of each row (``fixed_attention``); when one of them changes, another is made, which takes
about as long as two steps.
"""

# pyright: basic

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakSet, ref

import torch
from torch import Tensor
from transformers import PreTrainedModel

from metaclaw.training.samplers.attention import RowAttention, Segment
from metaclaw.training.samplers.fixed_attention import FixedRows, num_pieces
from metaclaw.training.samplers.kv_rows import KvRow
from metaclaw.training.samplers.slots import Selection
from metaclaw.training.shared_device import is_out_of_memory

_MOST = 4  # recordings kept: their tensors lie in one pool, which the largest fills
_MOST_ROWS = 32  # of each row and layer some small kernels: of many rows a recording takes long to make
_REST_S = 60.0
_MOST_COVERED = 64  # steps by a recording of more rows, each of which costs a little; then there is one of these alone
_MOST_FAILURES = 3  # of one kind, then it is given up: torch before 2.12 does not quite get over one that breaks off

_log = logging.getLogger(__name__)

Key = tuple[int, tuple[tuple[int, int, int], ...]]  # where adapters lie; each row's number, pieces and adapter
Kind = tuple[bool, bool]  # with rows of many pieces; over several adapters: other kernels run
Step = Callable[[], Tensor]
Replay = Callable[[], None]


class Recorder(Protocol):
    """How a device records."""

    def rehearse(self, step: Step) -> None:
        """Run ``step`` as it is; raises ``RuntimeError`` where it asks what a recording cannot answer."""
        ...

    def record(self, step: Step) -> tuple[Tensor, Replay]:
        """Where the result of ``step`` will lie, and what puts it there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A step over some rows, each with one token more."""

    inputs_2B: Tensor  # on the device: tokens, and their places
    logits_BV: Tensor
    replay: Replay
    rows: tuple[ref[KvRow], ...]  # in the order of the inputs
    holds: tuple[object, ...]  # what it reads and would otherwise be freed

    def run(self, segments: Sequence[Segment]) -> Tensor:
        """The float32 logits (B, V) of the step, whose tokens are then in their rows. ``segments`` may be some of it.

        Rows that are left out go on with their last token again, which lands beyond what was committed and is not.
        """
        tokens = {one.row.number: one.tokens[0] for one in segments}
        rows = [row for each in self.rows if (row := each()) is not None]
        line = [tokens[row.number] if row.number in tokens else row.tokens[-1] for row in rows]
        inputs = torch.tensor([line, [row.length for row in rows]])
        self.inputs_2B.copy_(inputs, non_blocking=True)
        self.replay()
        for segment in segments:
            segment.row.commit(segment.tokens)
        places = {row.number: place for place, row in enumerate(rows)}
        if list(places) == list(tokens):
            return self.logits_BV.to(torch.float32, copy=True)  # the next replay writes there
        return torch.stack([self.logits_BV[places[one.row.number]] for one in segments]).to(torch.float32)


class RecordedSteps:
    """Recordings of one model's steps. ``recorder`` makes them; ``None`` where the device has none."""

    def __init__(
        self, model: PreTrainedModel, selection: Selection, attention: RowAttention, recorder: Recorder | None,
        *, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._model = model
        self._selection = selection
        self._attention = attention
        self._recorder = None if attention.has_windows else recorder
        self._recordings: OrderedDict[Key, Recording] = OrderedDict()
        self._last: Key | None = None
        self._plain: Key | None = None  # of the last step that ran as any other
        self._num_covered = 0
        self._clock = clock
        self._rests_until = 0.0
        self._rehearsed: set[Kind] = set()
        self._failures: Counter[Kind] = Counter()

    def of(self, segments: Sequence[Segment], beside: Sequence[Segment] = ()) -> Recording | None:
        """The recording of such a step, one token for each of ``segments``, made now if it is time.

        ``beside`` is read before it runs.

        ``None``: it has yet to run as any other. The first one of its kind always has: what comes once is not worth a
        recording, and it leaves ready what a recording must find ready.
        """
        key = self._key(segments)
        if key != self._last:
            self._last, self._num_covered = key, 0
        if key is None:
            return None
        found = key if key in self._recordings else self._covering(key, beside)
        if found is not None:
            self._recordings.move_to_end(found)
            return self._recordings[found]
        if key == self._plain:
            return self._made(key, segments)
        self._plain = key
        return None

    def _covering(self, key: Key, beside: Sequence[Segment]) -> Key | None:
        """A recording of some rows more, which have ended and are still there: kept for prompts that begin like them.

        An answer that ends would else cost a step as any other and a recording, as one that begins does.
        """
        if self._num_covered >= _MOST_COVERED:
            return None
        layout, wanted = key
        grows = {one.row.number for one in beside}
        for found, recording in self._recordings.items():
            if found[0] != layout or not set(wanted) <= set(found[1]) or not grows.isdisjoint(n for n, *_ in found[1]):
                continue
            rows = [row for each in recording.rows if (row := each()) is not None]
            as_recorded = [(row.number, num_pieces(row)) for row in rows] == [one[:2] for one in found[1]]
            if as_recorded and len(rows) - len(wanted) <= max(1, len(wanted) // 4):
                self._num_covered += len(rows) > len(wanted)
                return found
        return None

    def _key(self, segments: Sequence[Segment]) -> Key | None:
        if self._recorder is None or not 0 < len(segments) <= _MOST_ROWS or self._clock() < self._rests_until:
            return None
        if self._failures and self._failures[_kind(segments)] >= _MOST_FAILURES:
            return None
        rows = tuple((one.row.number, num_pieces(one.row), one.slot) for one in segments)
        return self._selection.layout, rows

    def _made(self, key: Key, segments: Sequence[Segment]) -> Recording | None:
        assert self._recorder is not None
        device = self._model.device
        inputs_2B = torch.tensor([[one.tokens[0] for one in segments], [one.row.length for one in segments]]).to(device)
        keep = torch.arange(len(segments), device=device)
        fixed = FixedRows([segment.row for segment in segments], inputs_2B[1], self._model.dtype)
        self._selection.choose([segment.slot for segment in segments], range(len(segments)))
        masks = self._selection.make_masks()

        def step() -> Tensor:
            fixed.begin()
            with self._attention.fixed_on(fixed):
                output = self._model(
                    input_ids=inputs_2B[:1], position_ids=inputs_2B[1:], past_key_values=self._attention,
                    use_cache=True, logits_to_keep=keep,
                )  # fmt: skip
            return output.logits[0]

        while len(self._recordings) >= _MOST:
            self._recordings.popitem(last=False)
        kind = _kind(segments)
        try:
            if kind not in self._rehearsed:
                self._recorder.rehearse(step)  # a kernel's first launch loads it, which cannot be recorded
                self._rehearsed.add(kind)
            logits_BV, replay = self._recorder.record(step)
        except (RuntimeError, MemoryError) as error:
            self._give_up(kind, error)
            return None
        # Rows are not held: a row that is gone is never asked for again, and its memory is needed.
        holds = (keep, fixed.line, masks)
        rows = tuple(ref(segment.row) for segment in segments)
        made = Recording(inputs_2B=inputs_2B, logits_BV=logits_BV, replay=replay, rows=rows, holds=holds)
        self._recordings[key] = made
        return made

    def _give_up(self, kind: Kind, error: Exception) -> None:
        """For some time: training takes memory and gives it back. What fails otherwise is not tried without end."""
        name, is_memory = type(self._model).__name__, is_out_of_memory(error)
        if is_memory:
            self._recordings.clear()
        else:
            self._failures[kind] += 1 if kind in self._rehearsed else _MOST_FAILURES
        if self._failures[kind] < _MOST_FAILURES:
            self._rests_until = self._clock() + _REST_S
            why = "no memory to record" if is_memory else "cannot record"
            _log.warning("%s steps of %s, which take longer for %.0f s: %s", why, name, _REST_S, error)
        else:
            which = "over several adapters " * kind[1] + "of long rows " * kind[0]
            _log.warning("steps %sof %s cannot be recorded, and take longer: %s", which, name, error)


class CudaGraphs:
    """How a GPU records."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def rehearse(self, step: Step) -> None:
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that it is a prototype
            torch.cuda.set_sync_debug_mode("error")  # what waits for the device would break a recording off
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def record(self, step: Step) -> tuple[Tensor, Replay]:
        graph = torch.cuda.CUDAGraph()
        # All share one pool; of a pool that lost its last graph torch may refuse to record in it again.
        pool = next((other.pool() for other in self._graphs), None)
        # The outer one: where a recording breaks off, the inner leaves its own stream behind as the current one.
        # Another thread may be reading an adapter from its file meanwhile.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
        ):
            result = step()
        self._graphs.add(graph)
        return result, graph.replay


def cuda_graphs(device: torch.device) -> Recorder | None:
    """How ``device`` records; ``None`` where it does not."""
    return CudaGraphs(device) if device.type == "cuda" else None


def _kind(segments: Sequence[Segment]) -> Kind:
    return any(num_pieces(one.row) > 1 for one in segments), len({one.slot for one in segments}) > 1
