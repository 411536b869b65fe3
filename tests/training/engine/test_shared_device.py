"""What is a lack of memory; that a worker whose device is lost ends, and that an idle one gives back what it can."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from metaclaw.training.commands import CreateModel, ForwardBackward, Generate
from metaclaw.training.shared_device import is_out_of_memory
from tests.training.engine.material import supervised
from tests.training.engine.workers import worker

# A worker that says so when it gives memory back.
_GIVES_BACK = """
import sys
from pathlib import Path
from metaclaw.training import worker
load = worker._start
def start(role, frame, channel):
    ready, loop = load(role, frame, channel)
    def rest():
        with Path(sys.argv[1]).open("a") as file:
            file.write("given back\\n")
    loop._rest = rest
    return ready, loop
worker._start = start
sys.exit(worker.main(["%s"]))
"""

# A worker on whose device each kernel fails once the model is loaded, as after a kernel's fault.
_LOST = """
import sys
import torch
from metaclaw.training import worker
from metaclaw.training.failures import DeviceLostError
def check():
    raise DeviceLostError("the device is lost to this process")
def fail(*_):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")
load = worker._start
def start(role, frame, channel):
    ready, loop = load(role, frame, channel)
    loop._check = check
    torch.nn.modules.module.register_module_forward_pre_hook(fail)
    return ready, loop
worker._start = start
sys.exit(worker.main(["%s"]))
"""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_lack_of_memory_is_told_by_whoever_lacks_it(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory"), KeyError("bad_alloc")],
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("role", ["engine", "sampler"])
def test_a_worker_whose_device_is_lost_says_what_failed_and_ends(role: str, tied_folder: Path) -> None:
    """Else it answers everything with the same error until somebody starts it again."""
    with worker(tied_folder, code=_LOST % role) as child:
        if role == "engine":
            assert "ok" in child.call(CreateModel(model_id="m", rank=4))
            answer = child.call(ForwardBackward(model_id="m", data=(supervised(6),), loss="cross_entropy"))
        else:
            answer = child.call(Generate(adapter_id=None, prompt=np.arange(5, dtype=np.int32)))
        assert "illegal memory access" in answer["error"]["message"]
        assert child.process.wait(timeout=30) == 71


@pytest.mark.parametrize("role", ["engine", "sampler"])
def test_an_idle_worker_gives_memory_back_once_and_goes_on(role: str, tied_folder: Path, tmp_path: Path) -> None:
    """On one card the other one needs it: else what the largest pass took stays where it was."""
    told = tmp_path / "told"
    with worker(tied_folder, code=_GIVES_BACK % role, arguments=[str(told)]) as child:
        for number in (1, 2):
            if role == "engine":
                assert "ok" in child.call(CreateModel(model_id=f"m{number}", rank=4))
            else:
                assert "event" in child.call(
                    Generate(adapter_id=None, prompt=np.arange(5, dtype=np.int32), max_tokens=1, num_samples=1)
                )
                while "ok" not in child.receive():
                    pass
            deadline = time.monotonic() + 30
            while not told.exists() or told.read_text().count("given back") < number:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        time.sleep(1.5)
        assert told.read_text().count("given back") == 2
