"""Recorded steps against those that are not: the same logits, whatever rows come, grow and go.

On a CPU the recorder is one that only runs the pass again at each replay: all but the GPU's own recording is as it is
there (``make test-gpu`` runs these tests with that).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metaclaw.training.samplers.adapter_files import read_adapter
from metaclaw.training.samplers.attention import RowAttention, Segment
from metaclaw.training.samplers.fixed_attention import attend_pieces
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.kv_rows import STRIDE, KvRow
from metaclaw.training.samplers.recorded_steps import RecordedSteps, Recorder, Replay, Step, cuda_graphs
from metaclaw.training.samplers.slots import LoraSlots, Selection
from tests.training.device import DEVICE, TOLERANCE
from tests.training.samplers.adapters import files_of, plain_model
from tests.training.samplers.conftest import Family
from tests.training.samplers.test_attention import sliding_model

HERE = torch.device(DEVICE)
ASKS_OR_BRINGS = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "_unique2", "lift_fresh", "masked_select",
}  # fmt: skip


class NothingFromOutside(TorchDispatchMode):
    """Refuses what a GPU cannot record: asking the device for a value, and bringing it one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket._qualified_op_name.removeprefix("aten::") in ASKS_OR_BRINGS:
            raise RuntimeError(f"{func} cannot be recorded")
        return func(*args, **(kwargs or {}))


class Outside(TorchDispatchMode):
    """Notes the memory that a pass reads and did not make: what a recording's addresses must still mean later."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[UntypedStorage] = []
        self.memory: list[StorageWeakRef] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = {each._cdata for each in self._made}
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in made:
                self.memory.append(StorageWeakRef(tensor.untyped_storage()))
        result = func(*args, **(kwargs or {}))
        self._made += [each.untyped_storage() for each in tree_leaves(result) if isinstance(each, Tensor)]
        return result


@dataclass
class Again:
    """The recorder of tests; counts. What the first pass gave lies where later ones put theirs."""

    selection: Selection | None = None  # a recording holds the choice that it was made with
    made: int = 0
    error: Exception | None = None  # of recordings
    tried: int = 0
    replays: list[int] = field(default_factory=list)
    real: Recorder | None = field(default_factory=lambda: cuda_graphs(HERE))

    def rehearse(self, step: Step) -> None:
        if self.real is not None:
            self.real.rehearse(step)
            return
        with NothingFromOutside():
            step()

    def record(self, step: Step) -> tuple[Tensor, Replay]:
        self.tried += 1
        if self.error is not None:
            raise self.error
        self.made += 1
        number = self.made
        if self.real is not None:
            result, graph = self.real.record(step)
        else:
            with NothingFromOutside():
                result = step()
            graph = None
        chosen = copy(self.selection)

        def replay() -> None:
            self.replays.append(number)
            if graph is None:
                now = copy(self.selection)
                self._choose_as(chosen)
                with NothingFromOutside():
                    result.copy_(step())
                self._choose_as(now)
            else:
                graph()

        return result, replay

    def _choose_as(self, other: Selection | None) -> None:
        for name in Selection.__slots__:
            setattr(self.selection, name, getattr(other, name))


@dataclass
class Once:
    """A recorder whose recordings do nothing: for what is seen of them without a replay."""

    seen: list[StorageWeakRef] = field(default_factory=list)  # what the last one read and did not make

    def rehearse(self, step: Step) -> None:
        step()

    def record(self, step: Step) -> tuple[Tensor, Replay]:
        with Outside() as outside:
            result = step()
        self.seen = outside.memory
        return result, lambda: None


class Side:
    """One way to run steps, over rows of its own."""

    def __init__(self, family: Family, recorder: Recorder | None, clock: Callable[[], float] = lambda: 0.0) -> None:
        model = plain_model(family.base).to(HERE)
        self.slots = LoraSlots(model, HERE)
        self.numbers = {None: 0}
        self.forward = ForwardPass(model, self.slots, HERE)
        self.forward._recorded = RecordedSteps(
            model, self.slots.selection, self.forward._attention, recorder, clock=clock
        )
        self._family = family
        self.rows: dict[str, KvRow] = {}

    def add(self, name: str) -> None:
        self.numbers[name] = self.slots.add(read_adapter(files_of(self._family.adapters[name]), origin="damaged"))

    def drop(self, name: str) -> None:
        self.slots.remove(self.numbers.pop(name))

    def read(self, row: str, length: int, adapter: str | None, capacity: int = 4 * STRIDE) -> None:
        self.rows[row] = KvRow(capacity)
        tokens = [(7 * place + len(row)) % 256 for place in range(length)]
        self.forward.run([Segment(row=self.rows[row], tokens=tokens, slot=self.numbers[adapter])], [length - 1])
        for tensor in (*self.rows[row].keys, *self.rows[row].values):
            tensor[length:] = 0.0  # as a row begins on a GPU

    def begin(self, row: str, length: int, adapter: str | None) -> None:
        self.rows[row] = KvRow(4 * STRIDE)

    def step_beside(self, running: dict[str, str | None], reading: str, length: int) -> Tensor:
        segments = [
            *(Segment(row=self.rows[row], tokens=(5,), slot=self.numbers[adapter]) for row, adapter in running.items()),
            Segment(row=self.rows[reading], tokens=tuple(range(length)), slot=0),
        ]
        count = len(running)
        return self.forward.run(segments, [*range(count), count + length - 1]).cpu()

    def step(self, rows: dict[str, str | None], token: int) -> Tensor:
        segments = [
            Segment(row=self.rows[row], tokens=(token + index,), slot=self.numbers[adapter])
            for index, (row, adapter) in enumerate(rows.items())
        ]
        return self.forward.run(segments, range(len(segments))).cpu()


class Both:
    """The same done to both sides; every step is compared."""

    def __init__(self, family: Family) -> None:
        self.recorder = Again()
        self.now = 0.0
        self.sides = [Side(family, None), Side(family, self.recorder, lambda: self.now)]
        self.recorder.selection = self.sides[1].slots.selection

    def __getattr__(self, name: str):
        def call(*args, **options) -> None:
            for side in self.sides:
                getattr(side, name)(*args, **options)

        return call

    @torch.inference_mode()
    def steps(self, rows: dict[str, str | None], count: int) -> None:
        for number in range(count):
            plain, recorded = (side.step(rows, 11 * number) for side in self.sides)
            torch.testing.assert_close(recorded, plain, atol=10 * TOLERANCE, rtol=10 * TOLERANCE)
        for row in rows:
            assert len({tuple(side.rows[row].tokens) for side in self.sides}) == 1

    @torch.inference_mode()
    def steps_beside(self, running: dict[str, str | None], reading: str, length: int) -> None:
        plain, recorded = (side.step_beside(running, reading, length) for side in self.sides)
        assert plain.shape == (len(running) + 1, 263)
        torch.testing.assert_close(recorded, plain, atol=10 * TOLERANCE, rtol=10 * TOLERANCE)


@pytest.fixture
def both(tied: Family) -> Both:
    return Both(tied)


def test_steps_are_recorded_at_the_second_of_a_kind_and_replayed_until_something_changes(both: Both) -> None:
    both.read("one", 5, None)
    both.steps({"one": None}, 6)
    assert (both.recorder.made, both.recorder.replays) == (1, [1] * 5)
    both.read("two", 9, None)
    both.steps({"one": None, "two": None}, 4)
    assert (both.recorder.made, both.recorder.replays[5:]) == (2, [2] * 3)
    both.steps({"one": None}, 3)  # and back: the first is still there
    assert (both.recorder.made, both.recorder.replays[8:]) == (2, [1] * 3)


def test_a_row_that_grows_over_a_piece_is_recorded_anew_and_sees_all_of_them(both: Both) -> None:
    both.read("long", 2 * STRIDE - 4, None)
    both.read("short", STRIDE - 2, None)
    both.steps({"long": None, "short": None}, 12)
    assert both.recorder.made == 3


@pytest.mark.parametrize("which", ["tied", "untied"])
def test_adapters_alone_and_mixed_are_those_of_steps_that_are_not_recorded(
    which: str, request: pytest.FixtureRequest
) -> None:
    family: Family = request.getfixturevalue(which)
    both = Both(family)
    first, second, *_ = family.adapters
    both.add(first)
    for row, adapter in (("x", first), ("y", first), ("z", None)):
        both.read(row, 20, adapter)
    both.steps({"x": first, "y": first}, 4)
    both.steps({"x": first, "z": None}, 4)
    both.add(second)  # as a new version comes: everything may lie elsewhere now
    both.read("new", 7, second)
    both.steps({"x": first, "z": None}, 4)
    both.steps({"x": first, "new": second, "z": None}, 4)
    both.drop(first)
    both.steps({"new": second, "z": None}, 4)
    assert both.recorder.made == 5


def test_prompts_are_read_beside_a_recorded_step(both: Both) -> None:
    """Also one that fails: the answers that run have then not gone on."""
    both.read("runs", 10, None)
    both.steps({"runs": None}, 3)
    for length in (40, 7):
        both.begin("new", 0, None)
        both.steps_beside({"runs": None}, "new", length)
    assert both.recorder.made == 1
    assert len(both.recorder.replays) == 4
    recorded = both.sides[1]
    before = list(recorded.rows["runs"].tokens)
    too_small = Segment(row=KvRow(1), tokens=(1, 2), slot=0)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="exceeds"):
        recorded.forward.run([Segment(row=recorded.rows["runs"], tokens=(1,), slot=0), too_small], [0, 2])
    assert list(recorded.rows["runs"].tokens) == before


@torch.inference_mode()
def test_a_replay_that_fails_has_gone_on_with_nothing(both: Both) -> None:
    """Nor has the prompt that was read before it, which is read again."""
    both.read("runs", 10, None)
    both.steps({"runs": None}, 3)
    both.begin("new", 0, None)
    recorded = both.sides[1]
    before = {name: list(row.tokens) for name, row in recorded.rows.items()}
    [key] = recorded.forward._recorded._recordings
    one = recorded.forward._recorded._recordings[key]

    def fail() -> None:
        raise RuntimeError("CUDA error")

    recorded.forward._recorded._recordings[key] = replace(one, replay=fail)
    with pytest.raises(RuntimeError, match="CUDA error"):
        recorded.step_beside({"runs": None}, "new", 7)
    assert {name: list(row.tokens) for name, row in recorded.rows.items()} == before


def test_an_answer_that_ends_needs_no_other_recording_while_its_row_is_kept(both: Both, tied: Family) -> None:
    """Nor does what becomes of the row: a prompt that begins like it is read into it, and goes on there."""
    first, second, *_ = tied.adapters
    for adapter in (first, second):
        both.add(adapter)
    rows: dict[str, str | None] = {"x": first, "y": second, "z": None}
    for row, adapter in rows.items():
        both.read(row, 20, adapter)
    both.steps(rows, 4)
    left: dict[str, str | None] = {"z": None, "x": first}
    before = list(both.sides[1].rows["y"].tokens)
    both.steps(left, 3)
    assert list(both.sides[1].rows["y"].tokens) == before
    for side in both.sides:
        side.rows["y"].truncate(12)
    both.steps_beside(left, "y", 30)
    both.steps(left, 3)
    both.steps({"z": None, "x": first, "y": second}, 3)
    assert (both.recorder.made, both.recorder.replays) == (1, [1] * 11)


def test_a_row_that_is_gone_or_has_grown_is_not_gone_on_with(both: Both) -> None:
    for row in ("x", "y", "z"):
        both.read(row, 20, None)
    both.steps({"x": None, "y": None, "z": None}, 3)
    both.steps({"x": None, "y": None}, 1)
    assert both.recorder.replays == [1] * 3
    both.steps_beside({"x": None, "y": None}, "z", STRIDE)  # runs as any other: it could grow beyond the recording
    both.steps({"x": None, "y": None}, 3)
    assert (both.recorder.made, both.recorder.replays) == (2, [1] * 3 + [2] * 3)


def test_what_goes_on_without_a_row_for_long_gets_a_recording_of_its_own(both: Both) -> None:
    for row in ("x", "y"):
        both.read(row, 20, None)
    both.steps({"x": None, "y": None}, 3)
    for _ in range(4):
        both.steps({"x": None}, 20)
    assert (both.recorder.made, both.recorder.replays) == (2, [1] * 2 + [1] * 64 + [2] * 15)


def test_a_recording_of_many_rows_is_not_gone_on_with_for_few(both: Both) -> None:
    rows: dict[str, str | None] = {str(number): None for number in range(6)}
    for row in rows:
        both.read(row, 20, None)
    both.steps(rows, 3)
    both.steps({"0": None, "1": None, "2": None}, 3)
    assert both.recorder.made == 2


@pytest.mark.parametrize("which", ["tied", "untied"])
def test_a_mixed_step_whose_first_of_its_kind_also_read_a_prompt_is_recorded(
    which: str, request: pytest.FixtureRequest
) -> None:
    """As while a new version comes: the masks of the pass that read are not those of the step alone."""
    family: Family = request.getfixturevalue(which)
    both = Both(family)
    first, second, *_ = family.adapters
    both.read("warm", 20, None)
    both.steps({"warm": None}, 3)
    for row, adapter in (("x", first), ("y", second)):
        both.add(adapter)
        both.read(row, 20, adapter)
    mixed: dict[str, str | None] = {"x": first, "y": second}
    for _ in range(4):
        both.begin("new", 0, None)
        both.steps_beside(mixed, "new", 7)
    both.steps(mixed, 4)
    assert (both.recorder.made, both.recorder.replays) == (2, [1, 1] + [2] * 6)


@pytest.mark.parametrize("kind", ["every layer", "one layer"])
def test_models_with_sliding_windows_are_not_recorded(kind: str, tmp_path: Path) -> None:
    model = plain_model(sliding_model(kind, tmp_path))
    attention = RowAttention(model)
    assert attention.has_windows


def test_what_lies_beyond_a_row_never_reaches_a_result(both: Both) -> None:
    both.read("row", 10, None)
    for side in both.sides:
        for tensor in (*side.rows["row"].keys, *side.rows["row"].values):
            tensor[11:] = 1000.0
    both.steps({"row": None}, 5)
    assert both.recorder.replays


def test_a_row_that_was_cut_back_goes_on_from_there(both: Both) -> None:
    both.read("row", 30, None)
    both.steps({"row": None}, 4)
    for side in both.sides:
        side.rows["row"].truncate(12)
    both.steps({"row": None}, 4)
    assert both.recorder.made == 1


def test_what_cannot_be_recorded_is_tried_three_times_a_minute_apart(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    both.recorder.error = RuntimeError("operation not permitted when stream is capturing")
    both.read("row", 10, None)
    for _ in range(5):
        both.steps({"row": None}, 5)
        both.now += 61
    assert both.recorder.tried == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "cannot be recorded" in caplog.text


def test_an_error_of_a_moment_ends_no_recordings(both: Both) -> None:
    both.read("row", 10, None)
    both.steps({"row": None}, 3)
    both.recorder.error = RuntimeError("CUDA error: of a moment")
    both.read("other", 10, None)
    both.steps({"row": None, "other": None}, 3)
    both.recorder.error = None
    both.now += 61
    both.steps({"row": None}, 3)
    assert (both.recorder.made, both.recorder.replays[2:]) == (1, [1] * 3)
    both.steps({"row": None, "other": None}, 3)
    assert both.recorder.made == 2


def test_a_kind_of_step_that_asks_the_device_is_not_recorded_and_others_are(
    both: Both, tied: Family, caplog: pytest.LogCaptureFixture
) -> None:
    """It is seen before a recording breaks off over it."""
    first, *_ = tied.adapters
    both.add(first)
    for row, adapter in (("x", first), ("z", None)):
        both.read(row, 20, adapter)
    recorded = both.sides[1]

    def ask(_module: object, _inputs: object, embedded: Tensor) -> None:
        if recorded.slots.selection.is_mixed:
            embedded.sum().item()

    recorded.forward._model.get_input_embeddings().register_forward_hook(ask)
    both.steps({"x": first, "z": None}, 4)
    assert (both.recorder.tried, len(caplog.records)) == (0, 1)
    assert "over several adapters" in caplog.text
    both.steps({"x": first}, 4)
    assert both.recorder.made == 1


def test_without_memory_nothing_is_recorded_for_a_minute(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    """Training takes it for a pass, and gives it back."""
    both.recorder.error = torch.OutOfMemoryError("CUDA out of memory")
    both.read("row", 10, None)
    both.steps({"row": None}, 3)
    both.recorder.error = None
    both.steps({"row": None}, 5)
    assert (both.recorder.made, len(caplog.records)) == (0, 1)
    both.now += 61
    both.steps({"row": None}, 5)
    assert both.recorder.made == 1


def test_recordings_are_made_again_after_memory_ran_out_and_all_were_let_go(both: Both) -> None:
    """On a GPU their pool has lost its last recording then, and torch refuses to record in it again."""
    both.read("row", 10, None)
    both.steps({"row": None}, 3)
    both.recorder.error = torch.OutOfMemoryError("CUDA out of memory")
    both.read("other", 10, None)
    both.steps({"row": None, "other": None}, 3)
    both.recorder.error = None
    both.now += 61
    both.steps({"row": None, "other": None}, 4)
    both.read("third", 10, None)
    both.steps({"row": None, "other": None, "third": None}, 4)
    assert both.recorder.made == 3


@torch.inference_mode()
def test_a_recording_holds_all_that_it_reads(tied: Family) -> None:
    """Else another tensor comes to lie there, and of two adapters each is added to the other's answers."""
    recorder = Once()
    side = Side(tied, recorder)
    first, second, *_ = tied.adapters
    for adapter in (first, second):
        side.add(adapter)
    for row, adapter in (("x", first), ("y", second)):  # each prompt by itself
        side.read(row, 20, adapter)
    for token in range(3):
        side.step({"x": first, "y": second}, token)
    assert side.forward._recorded._recordings
    side.read("z", 20, None)
    assert len(recorder.seen) > 20
    assert not [each for each in recorder.seen if each.expired()]


@torch.inference_mode()
def test_a_recording_holds_no_memory_of_rows(tied: Family) -> None:
    side = Side(tied, Once())
    side.read("row", 10, None)
    for token in range(4):
        side.step({"row": None}, token)
    assert side.forward._recorded._recordings
    keys = weakref.ref(side.rows["row"].keys[0])
    del side.rows["row"]
    assert keys() is None


def test_pieces_of_a_row_come_with_their_normalisers() -> None:
    """Against plain attention over everything; on a GPU this is a kernel of its own."""
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(shape, generator=generator).to(HERE) for shape in ((3, 2, 4, 16), (3, 2, 64, 16), (3, 2, 64, 16))
    )
    mask = torch.zeros(3, 1, 1, 64, device=HERE)
    mask[2, ..., 20:] = float("-inf")
    outputs, normalisers = attend_pieces(queries, keys, values, mask, 0.25)
    scores = (queries.double() @ keys.double().mT) * 0.25 + mask.double()
    torch.testing.assert_close(outputs.double(), scores.softmax(-1) @ values.double(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normalisers.double(), scores.logsumexp(-1), atol=1e-5, rtol=1e-5)
