"""The worker as a process: its protocol over real standard streams, and its life with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from metaclaw.training.commands import CreateModel, ForwardBackward, OptimStep, UnloadModel, WorkerReady
from tests.training.device import DEVICE
from tests.training.engine.material import supervised
from tests.training.engine.workers import worker

# A parent that starts a worker, says its id, and waits to be killed.
_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "metaclaw.training.worker", "engine"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(60)
"""

# A worker in whose process a library prints, in Python and from below it.
_NOISY = """
import os, sys
from metaclaw.training import channel
claim = channel.claim_standard_streams
def noisy():
    claimed = claim()
    print("loading 100%", flush=True)
    os.write(1, b"native noise")
    os.system("echo noise of a grandchild")
    assert sys.stdin.read() == ""
    return claimed
channel.claim_standard_streams = noisy
from metaclaw.training import worker
sys.exit(worker.main(["engine"]))
"""


def test_the_protocol_from_start_to_the_end_of_input(tied_folder: Path) -> None:
    with worker(tied_folder, max_lora_rank=8, max_concurrent=4) as child:
        ready = WorkerReady(**child.ready["ok"])
        assert (ready.vocab_size, ready.max_context, ready.tied_embeddings) == (263, 2048, True)
        assert (ready.device, ready.dtype, list(ready.end_tokens)) == (DEVICE, "float32", [256])
        assert psutil.Process(child.process.pid).nice() == min(19, os.nice(0) + 15)  # decoding goes first

        assert child.call(CreateModel(model_id="m", rank=4))["ok"]["num_trainable"] > 0
        for command in (
            ForwardBackward(model_id="m", data=(supervised(6), supervised(3)), loss="cross_entropy"),
            OptimStep(model_id="m"),
        ):
            child.post(command)  # pipelined, as the SDK does
        trained, stepped = child.receive(), child.receive()
        assert (trained["id"], stepped["id"]) == (2, 3)
        assert [array.shape for array in trained["ok"]["logprobs"]] == [(6,), (3,)]
        assert trained["ok"]["logprobs"][0].dtype == np.float32
        assert stepped["ok"]["metrics"]["step"] == 1

        refused = child.call(CreateModel(model_id="n", rank=9))["error"]
        assert (refused["code"], refused["caller_fault"]) == ("invalid_request", True)
        assert "between 1 and 8" in refused["message"]
        missing = child.call(UnloadModel(model_id="ghost"))["error"]
        assert (missing["code"], missing["caller_fault"]) == ("not_found", True)
        child.send({"id": 77, "op": "create_model", "colour": "blue"})
        assert child.receive()["error"]["caller_fault"] is True
        child.send(
            {
                "id": 78,
                "op": "forward_backward",
                "model_id": "m",
                "data": [{"tokens": None, "inputs": {}}],
                "loss": "ppo",
            }
        )
        assert child.receive()["id"] == 78

        os.kill(child.process.pid, signal.SIGINT)  # Ctrl-C goes to the whole group; the parent decides
        assert "ok" in child.call(UnloadModel(model_id="m"))
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert child.process.wait(timeout=5) == 0


def test_what_libraries_print_never_reaches_the_frames(tied_folder: Path) -> None:
    with worker(tied_folder, code=_NOISY) as child:
        assert child.ready["ok"]["vocab_size"] == 263
        child.process.kill()
        assert child.process.stderr is not None
        said = child.process.stderr.read()
    assert b"loading 100%" in said
    assert b"native noise" in said
    assert b"noise of a grandchild" in said


def test_a_worker_ends_with_its_parent_even_while_it_loads() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait(timeout=10)
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with worker(tmp_path / "nowhere") as child:
        assert child.ready["id"] == 0
        assert child.ready["error"]["code"] == "model_unavailable"
        assert "nowhere" in child.ready["error"]["message"]
        assert child.process.wait(timeout=10) == 1


def test_a_worker_wants_to_know_what_it_is() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "metaclaw.training.worker", "trainer"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "engine|sampler" in ran.stderr
