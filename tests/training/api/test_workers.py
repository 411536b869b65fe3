"""Supervision when the machine or the child misbehaves: real processes, started in the worker's place."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

from metaclaw.training.api.workers import Worker, WorkerSpec

pytestmark = pytest.mark.anyio

_SPEC = WorkerSpec(name="engine", start={}, environment={})
_READY = """
import struct, sys, time
from metaclaw.training.commands import encode_frame
ready = {"vocab_size": 1, "max_context": 1, "end_tokens": [], "architecture": "a", "base_digest": "d",
         "tied_embeddings": True, "device": "cpu", "dtype": "float32"}
body = encode_frame({"id": 0, "ok": ready})
sys.stdout.buffer.write(struct.pack("<I", len(body)) + body)
sys.stdout.buffer.flush()
"""
_GARBAGE = (
    _READY
    + """
sys.stdout.buffer.write(struct.pack("<I", 3) + bytes([0xC1, 0xFF, 0xFF]))
sys.stdout.buffer.flush()
time.sleep(60)
"""
)
# Says that it has a GPU, and ends; its successor tells what it was asked for.
_ON_A_GPU = _READY.replace('"cpu"', '"cuda"')
_TELLS = """
import struct, sys
from metaclaw.training.commands import decode_frame, encode_frame
(size,) = struct.unpack("<I", sys.stdin.buffer.read(4))
body = encode_frame({"id": 0, "error": {"message": decode_frame(sys.stdin.buffer.read(size))["device"]}})
sys.stdout.buffer.write(struct.pack("<I", len(body)) + body)
"""
_STAYS = _READY + "sys.stdin.buffer.read()"


class ScriptedWorker(Worker):
    """Starts these programs one after the other, the last one again and again; ``None`` cannot be started."""

    def __init__(self, *programs: str | None, spec: WorkerSpec = _SPEC) -> None:
        super().__init__(spec)
        self.programs = list(programs)
        self.started: list[asyncio.subprocess.Process] = []

    async def _spawn(self) -> asyncio.subprocess.Process:
        program = self.programs.pop(0) if len(self.programs) > 1 else self.programs[0]
        if program is None:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self.started.append(process)
        return process


@contextlib.asynccontextmanager
async def running(worker: Worker):
    task = asyncio.ensure_future(worker.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_a_process_that_cannot_be_started_just_now_is_tried_again():
    worker = ScriptedWorker(None, None, _STAYS)
    async with running(worker):
        await worker.ready(30)
    assert worker.generation == 1


async def test_a_frame_that_cannot_be_read_ends_that_process_and_another_one_takes_over():
    worker = ScriptedWorker(_GARBAGE, _STAYS)
    async with running(worker), asyncio.timeout(30):
        while worker.generation < 2:  # noqa: ASYNC110 - supervision tells nobody of a restart
            await asyncio.sleep(0.02)
        await worker.ready()
        first, second = worker.started
        assert (first.returncode, second.returncode) == (-9, None)


async def test_a_process_that_never_starts_is_given_up_with_the_reason(monkeypatch):
    monkeypatch.setattr("metaclaw.training.api.workers._MAX_BACKOFF_S", 0.01)
    worker = ScriptedWorker(None)
    async with running(worker), asyncio.timeout(10):
        while worker.state != "failed":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert "Resource temporarily unavailable" in worker.detail


async def test_a_worker_that_had_a_gpu_is_not_started_again_on_the_cpu(monkeypatch):
    """What "auto" means is settled by the first start."""
    monkeypatch.setattr("metaclaw.training.api.workers._MAX_BACKOFF_S", 0.01)
    spec = WorkerSpec(name="engine", start={"device": "auto"}, environment={})
    worker = ScriptedWorker(_ON_A_GPU, _TELLS, spec=spec)
    async with running(worker), asyncio.timeout(60):
        while worker.state != "failed":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert worker.detail == "cuda"
