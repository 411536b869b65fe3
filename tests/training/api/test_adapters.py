"""Adapters against a real sampler process: more of them than it holds, callers that leave, and damaged files."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from metaclaw.errors import EngineError
from metaclaw.training.api.adapters import Adapters
from metaclaw.training.api.background import background
from metaclaw.training.api.records import Checkpoint, LoraShape, parse_path
from metaclaw.training.api.workers import Worker, WorkerSpec
from metaclaw.training.commands import Command, LoadAdapter, UnloadAdapter
from tests.training.device import DEVICE
from tests.training.samplers.adapters import publish, write_adapter
from tests.training.samplers.loops import generate

pytestmark = pytest.mark.anyio


class ListeningWorker(Worker):
    """A real one that notes which loads and unloads it was asked for."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        self.asked: list[tuple[str, str]] = []

    async def call(self, command: Command, *, generation: int | None = None):
        if isinstance(command, LoadAdapter | UnloadAdapter):
            self.asked.append((command.op, command.adapter_id))
        return await super().call(command, generation=generation)

    def held(self) -> list[str]:
        """The adapters that it was told to load and not to unload since."""
        unloaded = {name for op, name in self.asked if op == UnloadAdapter.op}
        return [name for op, name in self.asked if op == LoadAdapter.op and name not in unloaded]


@contextlib.asynccontextmanager
async def adapters_of(base: Path, *, max_loaded: int):
    spec = WorkerSpec(
        name="sampler",
        start={"base_model": str(base), "device": DEVICE, "dtype": "float32", "threads": 1, "max_lora_rank": 16},
        environment={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    async with background() as tasks:
        worker = ListeningWorker(spec)
        tasks.start(worker.run())
        await worker.ready(90)
        yield worker, Adapters(worker, tasks, max_loaded=max_loaded)


@pytest.fixture(scope="module")
def written(server, tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    return [write_adapter(server.model, root / str(seed), seed=seed) for seed in range(3)]


def checkpoint(written: Path, directory: Path, digest: str, name: str) -> Checkpoint:
    return Checkpoint(
        path=parse_path(f"tinker://run/sampler_weights/{name}"), directory=publish(written, directory / name, digest),
        lora=LoraShape(rank=4), base_digest=digest, size_bytes=1, created_at=0.0, expires_at=None, is_ephemeral=False,
        is_public=False, metadata={},
    )  # fmt: skip


async def checkpoints(worker: Worker, written, directory: Path) -> list[Checkpoint]:
    digest = (await worker.ready()).base_digest
    return [checkpoint(each, directory, digest, f"v{number}") for number, each in enumerate(written)]


async def answer(worker: Worker, adapters: Adapters, weights: Checkpoint) -> list[int]:
    async with adapters.lease(weights) as lease:
        command = generate("hello", lease.adapter_id, max_tokens=12)
        events = [event async for event in worker.stream(command, generation=lease.generation)]
    return [int(token) for event in events if event["event"] == "tokens" for token in event["tokens"]]


async def eventually(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is a list that grows
            await asyncio.sleep(0.01)


async def test_weights_that_were_unloaded_for_room_are_served_again_as_they_were(server, written, tmp_path):
    """KNOWLEDGE 1.1: the sampler takes no name twice, so a version that comes back comes under a new one."""
    async with adapters_of(server.model, max_loaded=2) as (worker, adapters):
        saved = await checkpoints(worker, written, tmp_path)
        first = [await answer(worker, adapters, each) for each in saved]
        again = [await answer(worker, adapters, each) for each in saved]
        assert again == first
        assert len({tuple(tokens) for tokens in first}) == 3
        await eventually(lambda: len(worker.held()) == 2)


async def test_a_caller_that_leaves_while_an_adapter_is_loaded_or_unloaded_spoils_nothing(server, written, tmp_path):
    async with adapters_of(server.model, max_loaded=1) as (worker, adapters):
        one, two, _ = await checkpoints(worker, written, tmp_path)
        for weights in (one, two, one):
            leaving = asyncio.ensure_future(answer(worker, adapters, weights))
            await eventually(lambda: worker.asked and worker.asked[-1][0] == LoadAdapter.op)
            leaving.cancel()
            await asyncio.wait([leaving])
        served = await answer(worker, adapters, one)
        assert served == await answer(worker, adapters, one)
        await answer(worker, adapters, two)
        await eventually(lambda: len(worker.held()) == 1)


async def test_callers_at_once_share_one_load(server, written, tmp_path):
    async with adapters_of(server.model, max_loaded=2) as (worker, adapters):
        one, *_ = await checkpoints(worker, written, tmp_path)
        answers = await asyncio.gather(*(answer(worker, adapters, one) for _ in range(4)))
        assert len(worker.asked) == 1
        assert answers == [answers[0]] * 4


async def test_damaged_weights_are_our_failure_with_their_name_and_are_tried_anew(server, written, tmp_path):
    """Nobody who asks for a version can have damaged it: a 400 would blame the client."""
    async with adapters_of(server.model, max_loaded=2) as (worker, adapters):
        one, *_ = await checkpoints(worker, written, tmp_path)
        file = one.directory / "adapter_model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(EngineError, match=r"sampler_weights/v0 cannot be served.*damaged"):
            await answer(worker, adapters, one)
        file.write_bytes(whole)
        assert await answer(worker, adapters, one)


async def test_weights_deleted_while_they_are_served_go_on_to_the_end(server, written, tmp_path):
    async with adapters_of(server.model, max_loaded=2) as (worker, adapters):
        one, *_ = await checkpoints(worker, written, tmp_path)
        expected = await answer(worker, adapters, one)
        async with adapters.lease(one) as lease:
            for file in one.directory.iterdir():
                await asyncio.to_thread(os.unlink, file)
            await asyncio.to_thread(one.directory.rmdir)
            events = worker.stream(generate("hello", lease.adapter_id, max_tokens=12), generation=lease.generation)
            tokens = [int(token) async for event in events if event["event"] == "tokens" for token in event["tokens"]]
        assert tokens == expected
