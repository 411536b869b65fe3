"""Sessions that end while their models are being made, against a real engine process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time

import pytest

from metaclaw.errors import NotFoundError
from metaclaw.training.api.admission import Admission, Load
from metaclaw.training.api.background import background
from metaclaw.training.api.database import open_database
from metaclaw.training.api.futures import Futures
from metaclaw.training.api.jobs import json_result
from metaclaw.training.api.models import LiveModels
from metaclaw.training.api.records import Session
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.tenants import ADMIN
from metaclaw.training.api.wire import Nothing
from metaclaw.training.api.workers import Worker, WorkerSpec
from metaclaw.training.commands import CreateModel, ForwardBackward, OptimStep
from tests.training.device import DEVICE

pytestmark = pytest.mark.anyio

SESSION = Session(session_id="session", created_at=0.0, seen_at=0.0, finished_at=None, display_name=None, metadata={})


class Bench:
    """Live models on an engine, and a way to submit jobs to them."""

    def __init__(self, engine, models, futures):
        self.engine, self.models, self.futures = engine, models, futures

    def make(self, seq_id=0):
        return self.submit(seq_id, lambda model: self.models.make(model, CreateModel(model_id="m", rank=2)))

    def step(self, seq_id):
        return self.submit(seq_id, lambda model: self.models.call(model, OptimStep(model_id="m")))

    def submit(self, seq_id, work):
        def job(model):
            async def run():
                await work(model)
                return json_result(Nothing())

            return run

        return self.models.submit(ADMIN, "m", seq_id, str(seq_id).encode(), Load(requests=1), job)

    async def answer(self, request_id):
        return json.loads((await self.futures.wait(ADMIN, request_id, 60)).body)


def real_engine(base):
    start = {"base_model": str(base), "device": DEVICE, "dtype": "float32", "threads": 1}
    return Worker(WorkerSpec(name="engine", start=start, environment={"OMP_NUM_THREADS": "1"}))


@contextlib.asynccontextmanager
async def bench(engine, directory):
    futures = Futures(time.monotonic)
    async with open_database(directory / "server.db") as database, background() as tasks:
        models = LiveModels(engine, Registry(database), futures, tasks, Admission(limits={"training": Load()}))
        running = tasks.start(engine.run())
        yield Bench(engine, models, futures)
        running.cancel()


async def test_a_session_that_ends_while_its_model_is_made_leaves_nothing_in_the_engine(server, tmp_path):
    async with bench(real_engine(server.model), tmp_path) as one:
        await one.engine.ready(90)
        one.models.open(ADMIN, "m", SESSION)
        making, later = one.make(), one.step(1)
        while one.engine._last_id == 0:  # noqa: ASYNC110 - until the command is on its way
            await asyncio.sleep(0)
        one.models.end_session("session", "the client has gone")
        for request_id in (making, later):
            assert "the client has gone" in (await one.answer(request_id))["error"]
        # A leaked model would be a conflict with this one.
        assert "num_trainable" in await one.engine.call(CreateModel(model_id="m", rank=2))


async def test_a_session_that_ended_while_the_engine_was_loading_makes_no_model(server, tmp_path):
    async with bench(real_engine(server.model), tmp_path) as one:
        one.models.open(ADMIN, "m", SESSION)
        making, later = one.make(), one.step(1)
        await asyncio.sleep(0.1)
        one.models.end_session("session", "the client has gone")
        for request_id in (making, later):
            assert "the client has gone" in (await one.answer(request_id))["error"]
        with pytest.raises(NotFoundError):
            one.step(2)
        assert one.engine._last_id == 0  # nothing was ever sent


async def test_the_lane_of_an_ended_model_ends_although_another_has_its_name(server, tmp_path):
    async with bench(real_engine(server.model), tmp_path) as one:
        one.models.open(ADMIN, "m", SESSION)
        await asyncio.sleep(0)  # its lane waits for a first job
        one.models.end_session("session", "the client was silent")
        one.models.open(ADMIN, "m", SESSION)
        async with asyncio.timeout(30):
            while len(one.models._tasks._tasks) != 2:  # noqa: ASYNC110 - the engine's and the second lane's
                await asyncio.sleep(0)


# Makes models and unloads them, never ends a pass by itself, and answers a step with what it was sent so far.
_ENDLESS = """
import struct, sys
from metaclaw.training.commands import decode_frame, encode_frame

def send(frame):
    body = encode_frame(frame)
    sys.stdout.buffer.write(struct.pack("<I", len(body)) + body)
    sys.stdout.buffer.flush()

ready = {"vocab_size": 1, "max_context": 1, "end_tokens": [], "architecture": "a", "base_digest": "d",
         "tied_embeddings": True, "device": "cpu", "dtype": "float32"}
sent = []
while len(size := sys.stdin.buffer.read(4)) == 4:
    frame = decode_frame(sys.stdin.buffer.read(struct.unpack("<I", size)[0]))
    if frame["op"] == "start":
        send({"id": 0, "ok": ready})
        continue
    sent.append([frame["id"], frame["op"], frame.get("target")])
    if frame["op"] not in ("forward_backward", "unload_model"):
        send({"id": frame["id"], "ok": {"sent": sent}})
    if frame["op"] == "cancel":
        send({"id": frame["target"], "ok": {"cancelled": True}})
"""


class EndlessEngine(Worker):
    async def _spawn(self):
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        return await asyncio.create_subprocess_exec(sys.executable, "-c", _ENDLESS, **pipes)


async def test_a_pass_ends_with_its_session_and_the_engine_is_told(tmp_path):
    """Whoever comes back and ends a session would else share the machine with a pass that nobody wants."""
    async with bench(EndlessEngine(WorkerSpec(name="engine", start={}, environment={})), tmp_path) as one:
        one.models.open(ADMIN, "m", SESSION)
        await one.answer(one.make())
        passing = one.submit(
            1, lambda model: one.models.call(model, ForwardBackward(model_id="m", data=(), loss="cross_entropy"))
        )
        while one.engine._last_id < 2:  # noqa: ASYNC110 - until the pass is on its way
            await asyncio.sleep(0)
        one.models.end_session("session", "the client has gone")
        assert "the client has gone" in (await one.answer(passing))["error"]
        sent = (await one.engine.call(OptimStep(model_id="other")))["sent"]
        (number,) = [number for number, op, _ in sent if op == "forward_backward"]
        assert [target for _, op, target in sent if op == "cancel"] == [number]
