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
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from metaclaw.training.samplers.answers import is_out_of_memory
from metaclaw.training.samplers.attention import RowAttention, Segment
from metaclaw.training.samplers.fixed_attention import FixedRows, num_pieces
from metaclaw.training.samplers.slots import Selection

_MOST = 4  # recordings kept: their tensors lie in one pool, which the largest fills
_MOST_ROWS = 32  # of each row and layer some small kernels: of many rows a recording takes long to make
_REST_S = 60.0

_log = logging.getLogger(__name__)

Key = tuple[object, ...]
Replay = Callable[[], None]
Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Replay]]  # of a pass: where its result will lie, and the replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A step over some rows, each with one token more."""

    inputs_2B: Tensor  # on the device: tokens, and their places
    logits_BV: Tensor
    replay: Replay
    holds: tuple[object, ...]  # what it reads and would otherwise be freed

    def run(self, segments: Sequence[Segment]) -> Tensor:
        """The float32 logits (B, V) of the step, whose tokens are then in their rows."""
        self.inputs_2B.copy_(_inputs(segments), non_blocking=True)
        self.replay()
        for segment in segments:
            segment.row.commit(segment.tokens)
        return self.logits_BV.to(torch.float32, copy=True)  # the next replay writes there


class RecordedSteps:
    """Recordings of one model's steps. ``record`` makes one of a pass; ``None`` where the device has none."""

    def __init__(
        self, model: PreTrainedModel, selection: Selection, attention: RowAttention, record: Record | None,
        *, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._model = model
        self._selection = selection
        self._attention = attention
        self._record = None if attention.has_windows else record
        self._recordings: OrderedDict[Key, Recording] = OrderedDict()
        self._last: Key | None = None
        self._clock = clock
        self._rests_until = 0.0
        self._ran: set[bool] = set()  # with rows of many pieces, and without: their kernels are loaded

    def of(self, segments: Sequence[Segment]) -> Recording | None:
        """The recording of such a step, one token for each of ``segments``, made now if it is time.

        ``None``: it has yet to run as any other. The first one of its kind always has: what comes once is not worth a
        recording, and it leaves ready what a recording must find ready.
        """
        key = self._key(segments)
        if key is None or key != self._last:
            self._last = key
            return None
        recording = self._recordings.get(key) or self._made(key, segments)
        if recording is not None:
            self._recordings.move_to_end(key)
        return recording

    def _key(self, segments: Sequence[Segment]) -> Key | None:
        if self._record is None or not 0 < len(segments) <= _MOST_ROWS or self._clock() < self._rests_until:
            return None
        rows = tuple((one.row.number, num_pieces(one.row), one.slot) for one in segments)
        return (self._selection.layout, *rows)

    def _made(self, key: Key, segments: Sequence[Segment]) -> Recording | None:
        assert self._record is not None
        device = self._model.device
        inputs_2B = _inputs(segments).to(device)
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
        try:
            if (has_pieces := any(num_pieces(one.row) > 1 for one in segments)) not in self._ran:
                step()  # a kernel's first launch loads it, which cannot be recorded
                self._ran.add(has_pieces)
            logits_BV, replay = self._record(step)
        except (RuntimeError, MemoryError) as error:
            self._give_up(error)
            return None
        # Rows are not held: a row that is gone is never asked for again, and its memory is needed.
        holds = (keep, fixed.line, masks)
        made = Recording(inputs_2B=inputs_2B, logits_BV=logits_BV, replay=replay, holds=holds)
        self._recordings[key] = made
        return made

    def _give_up(self, error: Exception) -> None:
        """For some time where there was no memory, which training takes and gives back; else for good."""
        self._recordings.clear()
        name = type(self._model).__name__
        if is_out_of_memory(error):
            self._rests_until = self._clock() + _REST_S
            _log.warning("no memory to record steps of %s, which take longer for %.0f s: %s", name, _REST_S, error)
        else:
            self._record = None
            _log.warning("steps of %s cannot be recorded, and take longer: %s", name, error)


def cuda_graphs(device: torch.device) -> Record | None:
    """How a GPU records; ``None`` for other devices."""
    if device.type != "cuda":
        return None
    pool: Any = torch.cuda.graph_pool_handle()

    def record(step: Callable[[], Tensor]) -> tuple[Tensor, Replay]:
        graph = torch.cuda.CUDAGraph()
        # Another thread may be reading an adapter from its file meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = step()
        return result, graph.replay

    return record


def _inputs(segments: Sequence[Segment]) -> Tensor:
    return torch.tensor([[one.tokens[0] for one in segments], [one.row.length for one in segments]])
