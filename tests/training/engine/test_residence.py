"""Models that move between the device, the host and the disk, and come back as they went."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metaclaw.errors import EngineError
from metaclaw.training.commands import CreateModel, OptimStep, SaveState, UnloadModel
from metaclaw.training.engine import Engine
from metaclaw.training.residence import Budgets, Residence
from tests.training.device import CRAMPED, ON_GPU
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import create, forward_backward, gradients, supervised, train, weights
from tests.training.engine.workers import worker

META = torch.device("meta")  # a device that is not the host, on a machine without one
MIB = 1 << 20


class Stub:
    """A model of one tensor, that refuses to be put back for want of memory as often as told."""

    def __init__(self, value: int, *, refusals: int = 0) -> None:
        self.tensors: dict[str, Tensor] = {"weight/w": torch.full((256,), value, dtype=torch.int32)}
        self.refusals = refusals

    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def take_out(self) -> dict[str, Tensor]:
        taken, self.tensors = self.tensors, {}
        return taken

    def put_back(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        if self.refusals:
            self.refusals -= 1
            raise torch.OutOfMemoryError("out of memory")
        self.tensors = dict(tensors)

    @property
    def value(self) -> int:
        return int(self.tensors["weight/w"][0])


def _residence(folder: Path | None, *, device: int, host: int, where: torch.device = META) -> Residence:
    return Residence(where, Budgets(device=device * 1024, host=host * 1024, folder=folder), clock=lambda: 0.0)


def test_the_idlest_go_to_the_host_and_then_to_disk_and_come_back(tmp_path: Path) -> None:
    """KNOWLEDGE 6: an evicted adapter answers 404 for ever."""
    residence = _residence(tmp_path / "idle", device=2, host=2)
    stubs = {name: Stub(number) for number, name in enumerate("abcdef")}
    for name, stub in stubs.items():
        residence.add(name, stub)
    assert [residence.place_of(name) for name in stubs] == ["disk", "disk", "host", "host", "device", "device"]
    assert stat.S_IMODE((tmp_path / "idle").stat().st_mode) == 0o700
    for name in "acaebfdcab":
        residence.use(name)
        assert stubs[name].value == "abcdef".index(name)
        places = [residence.place_of(other) for other in stubs]
        assert (places.count("device"), places.count("host"), places.count("disk")) == (2, 2, 2)
        assert len(list((tmp_path / "idle").iterdir())) == 2
    for name in stubs:
        residence.forget(name)
    assert list((tmp_path / "idle").iterdir()) == []


def test_what_an_engine_before_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "idle").mkdir()
    (tmp_path / "idle" / "7.safetensors").write_text("old")
    _residence(tmp_path / "idle", device=1, host=1)
    assert list((tmp_path / "idle").iterdir()) == []


def test_the_model_in_use_stays_however_small_the_budget(tmp_path: Path) -> None:
    residence = _residence(tmp_path / "idle", device=0, host=0)
    stubs = [Stub(0), Stub(1)]
    for number, stub in enumerate(stubs):
        residence.add(str(number), stub)
    for number in (0, 1, 1, 0):
        residence.use(str(number))
        assert [residence.place_of(name) for name in "01"].count("device") == 1
        assert stubs[number].value == number


def test_a_disk_that_refuses_keeps_models_in_memory(tmp_path: Path) -> None:
    residence = _residence(tmp_path / "idle", device=1, host=1)
    (tmp_path / "idle").rmdir()
    stubs = [Stub(number) for number in range(4)]
    for number, stub in enumerate(stubs):
        residence.add(str(number), stub)
    assert [residence.place_of(str(number)) for number in range(4)] == ["host", "host", "host", "device"]
    for number, stub in enumerate(stubs):
        residence.use(str(number))
        assert stub.value == number
    cpu = _residence(tmp_path / "gone", device=1, host=1, where=torch.device("cpu"))
    (tmp_path / "gone").rmdir()
    for number in range(4):
        cpu.add(str(number), Stub(number))
    assert {cpu.place_of(str(number)) for number in range(4)} == {"device"}


def test_a_file_that_is_gone_is_the_engines_fault_and_named(tmp_path: Path) -> None:
    residence = _residence(tmp_path / "idle", device=1, host=0)
    residence.add("a", Stub(0))
    residence.add("b", Stub(1))
    (file,) = (tmp_path / "idle").iterdir()
    file.unlink()
    with pytest.raises(EngineError, match=r"'a', moved to .*\.safetensors.*checkpoint"):
        residence.use("a")


def test_memory_that_is_short_for_a_return_is_taken_from_the_others(tmp_path: Path) -> None:
    residence = _residence(tmp_path / "idle", device=3, host=100)
    stubs = {name: Stub(number) for number, name in enumerate("abcd")}
    for name, stub in stubs.items():
        residence.add(name, stub)
    assert residence.place_of("a") == "host"
    stubs["a"].refusals = 1
    residence.use("a")
    assert stubs["a"].value == 0
    assert [residence.place_of(name) for name in "abcd"] == ["device", "host", "host", "host"]
    stubs["b"].refusals = 2
    with pytest.raises(torch.OutOfMemoryError):
        residence.use("b")
    residence.use("b")
    assert stubs["b"].value == 1


def test_a_model_that_the_host_has_no_memory_for_stays_on_the_device(tmp_path: Path) -> None:
    residence = _residence(tmp_path / "idle", device=1, host=100)
    stuck = Stub(0)
    stuck.tensors = {"weight/w": torch.empty(256, dtype=torch.int32, device=META)}  # which cannot be copied out
    residence.add("stuck", stuck)
    with pytest.raises(RuntimeError):
        residence.add("other", Stub(1))
    assert stuck.size_bytes() == 1024
    assert residence.place_of("stuck") == "device"


@pytest.fixture
def small(make_engine: MakeEngine, tmp_path: Path) -> Engine:
    """An engine in whose memory one trained model of the tiny base fits (0.2 to 0.4 MB each)."""
    return make_engine(**CRAMPED, spill_dir=str(tmp_path / "idle"))


def test_weights_moments_steps_and_waiting_gradients_survive_the_disk(
    small: Engine, make_engine: MakeEngine, tmp_path: Path
) -> None:
    """Eight models in memory for one or two, bit for bit what eight engines of their own would hold."""
    names = [f"m{number}" for number in range(8)]
    alone = {name: make_engine() for name in names}
    for rank, name in enumerate(names, start=20):
        for engine in (small, alone[name]):
            create(engine, name, rank=rank, seed=rank)
    for turn in range(3):
        for name in names:
            for engine in (small, alone[name]):
                forward_backward(engine, (supervised(6, seed=turn),), model_id=name)
                if turn == 1:
                    engine.execute(OptimStep(model_id=name, learning_rate=1e-2))
    places = [small.residence.place_of(name) for name in names]
    assert places.count("disk") >= 5 or (ON_GPU and {*places} == {"device", "host", "disk"})
    for name in names:
        for look in (gradients, weights):
            ours, theirs = look(small, name), look(alone[name], name)
            assert ours.keys() == theirs.keys()
            assert ours
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
        for where, engine in (("small", small), ("alone", alone[name])):
            engine.execute(OptimStep(model_id=name, learning_rate=1e-2))
            engine.execute(SaveState(model_id=name, directory=str(tmp_path / where / name)))
        for file in ("adapter_model.safetensors", "optimizer.safetensors"):
            assert (tmp_path / "small" / name / file).read_bytes() == (tmp_path / "alone" / name / file).read_bytes()


def test_unloading_a_model_deletes_its_file(small: Engine, tmp_path: Path) -> None:
    for name in "abcdef":
        create(small, name, rank=32)
        train(small, name, steps=1)
    assert small.residence.place_of("a") == "disk"
    for name in "abcdef":
        small.execute(UnloadModel(model_id=name))
    assert list((tmp_path / "idle").iterdir()) == []


def test_a_worker_takes_its_budgets_from_its_start_frame(tied_folder: Path, tmp_path: Path) -> None:
    with worker(tied_folder, **CRAMPED, spill_dir=str(tmp_path / "idle")) as child:
        for number in range(30):
            assert "ok" in child.call(CreateModel(model_id=str(number), rank=16))
        files = list((tmp_path / "idle").iterdir())
        assert len(files) > (5 if ON_GPU else 10)
        for number in (0, 29, 1):
            assert "ok" in child.call(SaveState(model_id=str(number), directory=str(tmp_path / f"s{number}")))
