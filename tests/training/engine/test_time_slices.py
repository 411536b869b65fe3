"""Several models at once in one engine process: interleaved, cancelled, out of memory, each as if it were alone."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from metaclaw.errors import EngineError
from metaclaw.training.adapters import WEIGHTS_FILE
from metaclaw.training.base_model import load_base
from metaclaw.training.channel import Frame
from metaclaw.training.commands import (
    Cancel,
    Command,
    CreateModel,
    ForwardBackward,
    OptimStep,
    SaveState,
    UnloadModel,
    command_frame,
    decode_frame,
    encode_frame,
)
from metaclaw.training.engine import Engine
from metaclaw.training.engine_loop import EngineLoop
from tests.training.device import CRAMPED, DEVICE
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import create, forward_backward, gradients, policy, supervised, train, weights
from tests.training.engine.workers import worker
from tests.training.memory import Memory

# A worker that, once its model is loaded, may take only so much more address space than it has.
_CRAMPED = """
import resource, sys
from pathlib import Path
from metaclaw.training import worker
load = worker._start
def cramped(role, start, channel):
    started = load(role, start, channel)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (192 << 20), -1))
    return started
worker._start = cramped
sys.exit(worker.main(["engine"]))
"""


class Pipe:
    """The engine's end of a channel: frames that wait, frames that were answered."""

    def __init__(self) -> None:
        self.waiting: deque[Frame] = deque()
        self.answers: dict[int, dict[str, Any]] = {}
        self.order: list[int] = []

    def receive(self, timeout_s: float | None = None) -> Frame | None:
        return self.waiting.popleft() if self.waiting else None

    def send(self, frame: dict[str, Any]) -> None:
        self.answers[frame["id"]] = frame
        self.order.append(frame["id"])


class Desk:
    """A loop that is advanced by hand."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.pipe = Pipe()
        base = load_base(folder, device=DEVICE, dtype="float32")
        self.loop = EngineLoop(base, {"max_batch_tokens": 16, "gradient_checkpointing": False, **options}, self.pipe)  # pyright: ignore[reportArgumentType]
        self._last_id = 0

    @property
    def engine(self) -> Engine:
        return self.loop.engine

    def post(self, command: Command, *, share: str = "") -> int:
        self._last_id += 1
        self.pipe.waiting.append(decode_frame(encode_frame(command_frame(self._last_id, command, share=share))))
        return self._last_id

    def advance(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.advance()

    def finish(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        wanted = list(ids)
        while not all(frame_id in self.pipe.answers for frame_id in wanted):
            self.loop.advance()
        return [self.pipe.answers[frame_id] for frame_id in wanted]


def _pass(model_id: str, *, seed: int, batches: int = 4) -> ForwardBackward:
    data = tuple(supervised(16, seed=100 * seed + number) for number in range(batches))
    return ForwardBackward(model_id=model_id, data=data, loss="cross_entropy")


@pytest.fixture
def desk(tied_folder: Path) -> Desk:
    desk = Desk(tied_folder)
    for name in "abc":
        create(desk.engine, name, seed=ord(name))
        train(desk.engine, name, steps=1)
    return desk


def test_passes_of_two_models_interleave_and_end_as_if_each_had_been_alone(desk: Desk, make_engine: MakeEngine) -> None:
    first, second = desk.post(_pass("a", seed=1), share="x"), desk.post(_pass("b", seed=2), share="y")
    ran: list[str] = []
    activate = desk.engine.base.model.base_model.layers[0].register_forward_pre_hook(
        lambda *_: ran.append(
            "x" if desk.engine._adapters._switch.active is desk.engine._models["a"].adapter.layers else "y"
        )
    )
    answers = desk.finish([first, second])
    activate.remove()
    assert "".join(ran) == "xyxyxyxy"
    for name, seed, answer in (("a", 1, answers[0]), ("b", 2, answers[1])):
        alone = make_engine(max_batch_tokens=16)
        create(alone, name, seed=ord(name))
        train(alone, name, steps=1)
        expected = alone.execute(_pass(name, seed=seed))
        assert all(map(np.array_equal, answer["ok"]["logprobs"], expected["logprobs"]))
        assert answer["ok"]["metrics"] == expected["metrics"]
        ours, theirs = gradients(desk.engine, name), gradients(alone, name)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_interleaving_changes_nothing_when_memory_holds_one_model(
    desk: Desk, tied_folder: Path, tmp_path: Path
) -> None:
    """A pass's own and earlier gradients go to disk and back between its micro-batches."""
    cramped = Desk(tied_folder, **CRAMPED, spill_dir=str(tmp_path / "idle"))
    spacious = Desk(tied_folder)
    seen: set[str] = set()
    for one in (cramped, spacious):
        for name in "ab":
            create(one.engine, name, rank=40, seed=ord(name))
            train(one.engine, name, steps=2)
            forward_backward(one.engine, (supervised(9),), model_id=name)
        ids = [one.post(_pass("a", seed=1), share="x"), one.post(_pass("b", seed=2), share="y")]
        while not all(frame_id in one.pipe.answers for frame_id in ids):
            one.advance()
            seen |= {one.engine.residence.place_of(name) for name in "ab"}
    assert "device" in seen
    assert len(seen) > 1
    for name in "ab":
        ours, theirs = gradients(cramped.engine, name), gradients(spacious.engine, name)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_a_short_command_is_answered_after_one_micro_batch_of_anothers_pass(desk: Desk, tmp_path: Path) -> None:
    forward_backward(desk.engine, (supervised(8),), model_id="b")
    long = desk.post(_pass("a", seed=1, batches=40), share="x")
    desk.advance(3)
    step = desk.post(OptimStep(model_id="b"), share="y")
    desk.advance(1)
    save = desk.post(SaveState(model_id="b", directory=str(tmp_path / "b")), share="y")
    new = desk.post(CreateModel(model_id="d", rank=2), share="z")
    desk.advance(3)
    assert {step, save, new} <= desk.pipe.answers.keys()
    assert long not in desk.pipe.answers
    assert all("ok" in answer for answer in desk.pipe.answers.values())


def test_commands_of_one_model_keep_their_order(desk: Desk) -> None:
    ids = [
        desk.post(_pass("a", seed=1), share="x"), desk.post(OptimStep(model_id="a"), share="x"),
        desk.post(_pass("a", seed=2), share="admin"), desk.post(UnloadModel(model_id="a"), share="x"),
    ]  # fmt: skip
    answers = desk.finish(ids)
    assert desk.pipe.order == ids
    assert answers[1]["ok"]["metrics"]["step"] == 2


def test_a_cancelled_pass_leaves_its_model_as_it_was(desk: Desk) -> None:
    forward_backward(desk.engine, (supervised(8),), model_id="a")
    before = gradients(desk.engine, "a")
    target, other = desk.post(_pass("a", seed=1), share="x"), desk.post(_pass("b", seed=2), share="y")
    queued = desk.post(_pass("a", seed=3), share="x")
    desk.advance(4)
    cancels = [desk.post(Cancel(target=number)) for number in (target, queued, 999)]
    answers = desk.finish([target, queued, *cancels, other])
    assert [answer["ok"] for answer in answers[:5]] == [{"cancelled": True}, {"cancelled": True}, {}, {}, {}]
    assert len(answers[5]["ok"]["logprobs"]) == 4
    after = gradients(desk.engine, "a")
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert "ok" in desk.finish([desk.post(_pass("a", seed=1))])[0]


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_pass_is_cancelled_in_the_middle_of_a_micro_batch(desk: Desk, way: str) -> None:
    """A long sequence is one micro-batch and takes many seconds on a CPU, which whoever came back would wait for."""
    forward_backward(desk.engine, (supervised(8),), model_id="a")
    before = gradients(desk.engine, "a")
    layers = desk.engine.base.model.base_model.layers
    target = desk.post(_pass("a", seed=1, batches=1))
    ran: list[str] = []

    def runs(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> None:
        ran.append(name)
        if name == ("first" if way == "forward" else "last"):
            desk.post(Cancel(target=target))
            desk.post(_pass("b", seed=2))

    first = layers[0].register_forward_pre_hook(lambda *inputs: runs(*inputs, "first"))
    last = layers[-1].register_forward_pre_hook(lambda *inputs: runs(*inputs, "last"))
    steps: list[int] = []
    watched = layers[0].register_full_backward_hook(lambda *_: steps.append(1))
    desk.advance()
    for hook in (first, last, watched):
        hook.remove()
    assert desk.pipe.answers[target]["ok"] == {"cancelled": True}, "the one micro-batch is not run to its end"
    assert ran == (["first"] if way == "forward" else ["first", "last"])
    assert not steps
    after = gradients(desk.engine, "a")
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert "ok" in desk.finish([target + 1, target + 2])[1], "what came meanwhile is done in its order"
    assert len(desk.finish([target + 2])[0]["ok"]["logprobs"]) == 4


def test_a_pass_that_fails_half_way_leaves_both_models_right(desk: Desk) -> None:
    forward_backward(desk.engine, (supervised(8),), model_id="a")
    before = gradients(desk.engine, "a")
    broken = policy(14)
    broken.inputs["logprobs"] = np.full(14, -1e4, np.float32)
    data = (policy(16), policy(15), broken)
    bad = desk.post(ForwardBackward(model_id="a", data=data, loss="importance_sampling"), share="x")
    good = desk.post(_pass("b", seed=2), share="y")
    answers = desk.finish([bad, good])
    assert "not finite" in answers[0]["error"]["message"]
    assert "ok" in answers[1]
    assert all(np.array_equal(before[key], array) for key, array in gradients(desk.engine, "a").items())


def test_an_idle_model_keeps_every_bit_while_another_trains(desk: Desk, tmp_path: Path) -> None:
    forward_backward(desk.engine, (supervised(8),), model_id="b")
    environment = dict(os.environ)
    before = weights(desk.engine, "b"), gradients(desk.engine, "b")
    desk.engine.execute(SaveState(model_id="b", directory=str(tmp_path / "before")))
    for step in range(12):
        desk.finish([desk.post(_pass("a", seed=step, batches=2)), desk.post(OptimStep(model_id="a"))])
    desk.engine.execute(SaveState(model_id="b", directory=str(tmp_path / "after")))
    for old, new in zip(before, (weights(desk.engine, "b"), gradients(desk.engine, "b")), strict=True):
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[key], new[key]) for key in old)
    for file in (tmp_path / "before").iterdir():
        assert file.read_bytes() == (tmp_path / "after" / file.name).read_bytes()
    assert dict(os.environ) == environment


def test_a_worker_that_really_runs_out_of_memory_goes_on_with_smaller_micro_batches(
    tied_folder: Path, tmp_path: Path
) -> None:
    """SkyRL #1873: here the address space ends in torch's own allocator."""
    small = ForwardBackward(model_id="m", data=(supervised(16, seed=1),), loss="cross_entropy")
    huge = ForwardBackward(
        model_id="m", data=tuple(supervised(2000, seed=seed) for seed in range(20)), loss="cross_entropy"
    )
    options: dict[str, Any] = {"max_batch_tokens": 100_000, "gradient_checkpointing": False}
    for name, code in (("cramped", _CRAMPED), ("spacious", None)):
        with worker(tied_folder, code=code, **options) as child:
            child.call(CreateModel(model_id="m", rank=4, seed=1))
            child.call(small)
            assert len(child.call(huge)["ok"]["logprobs"]) == 20
            child.call(small)
            assert child.call(OptimStep(model_id="m"))["ok"]["metrics"]["step"] == 1
            assert "ok" in child.call(SaveState(model_id="m", directory=str(tmp_path / name)))
            assert child.process.stdin is not None
            assert child.process.stderr is not None
            child.process.stdin.close()
            assert (b"out of memory in a pass" in child.process.stderr.read()) is (code is not None)
    ours, theirs = (safetensors.torch.load_file(tmp_path / name / WEIGHTS_FILE) for name in ("cramped", "spacious"))
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, atol=1e-6, rtol=1e-3)


def test_a_pass_that_finds_no_memory_however_small_leaves_everything_as_it_was(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(max_batch_tokens=512, gradient_checkpointing=False)
    create(engine)
    forward_backward(engine, (supervised(9),))
    before, data = gradients(engine), tuple(supervised(100, seed=seed) for seed in range(6))
    with Memory(1 << 40) as memory:
        forward_backward(engine, data[:1], forward_only=True)
        memory.limit = memory.peak // 2
        with pytest.raises(EngineError, match=r"out of memory in forward_backward.*max_batch_tokens"):
            forward_backward(engine, data)
    assert [record.args for record in caplog.records] == [(256,), (128,), (100,)]
    after = gradients(engine)
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_our_adamw_is_torchs_bit_for_bit(make_engine: MakeEngine) -> None:
    engine = make_engine()
    create(engine)
    train(engine, steps=1)
    ours = engine.model("m")
    engine_parameters = ours.adapter.parameters
    fresh = make_engine()
    create(fresh)
    theirs = fresh.model("m").adapter.parameters
    adamw = torch.optim.AdamW(theirs.values(), lr=5e-3, betas=(0.9, 0.95), eps=1e-12, weight_decay=0.0, foreach=False)
    forward_backward(fresh, (supervised(12, seed=0), supervised(7, seed=0)))
    adamw.step()
    assert all(torch.equal(engine_parameters[key], theirs[key]) for key in theirs)
    for step in range(1, 4):
        fresh.model("m").optimizer.drop_gradients()
        for one in (engine, fresh):
            forward_backward(one, (supervised(9, seed=step),))
        engine.execute(OptimStep(model_id="m", learning_rate=3e-3, weight_decay=0.1))
        adamw.param_groups[0].update(lr=3e-3, weight_decay=0.1)
        adamw.step()
        assert all(torch.equal(engine_parameters[key], theirs[key]) for key in theirs)
