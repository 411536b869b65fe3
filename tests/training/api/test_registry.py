"""The registry and the checkpoints' folders, without a server."""

from __future__ import annotations

import asyncio

import pytest

from metaclaw.errors import NotFoundError
from metaclaw.training.api.checkpoints import CheckpointStore, sweep_left
from metaclaw.training.api.database import open_database
from metaclaw.training.api.records import Checkpoint, LoraShape, SamplingSession, Session, TrainingRun, parse_path
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.tenants import ADMIN

pytestmark = pytest.mark.anyio


async def test_only_the_sessions_asked_about_are_looked_at_and_finished_ones_are_never_stale(tmp_path):
    async with open_database(tmp_path / "server.db") as database:
        sessions = Registry(database).everything.sessions
        for name, seen_at in (("old", 1.0), ("older", 1.0), ("young", 9.0), ("finished", 1.0)):
            session = Session(
                session_id=name, created_at=0.0, seen_at=seen_at, finished_at=None, display_name=None, metadata={}
            )
            await sessions.add(session)
        await sessions.finish("finished", 2.0)
        assert await sessions.stale({"old", "young", "finished", "never"}, 5.0) == ["old"]
        assert await sessions.stale(set(), 5.0) == []


async def test_old_sessions_are_forgotten_with_their_samplers_but_never_one_that_made_a_model(tmp_path):
    async with open_database(tmp_path / "server.db") as database:
        registry = Registry(database).everything
        for name, seen_at in (("unused", 1.0), ("trained", 1.0), ("young", 9.0)):
            session = Session(
                session_id=name, created_at=0.0, seen_at=seen_at, finished_at=None, display_name=None, metadata={}
            )
            await registry.sessions.add(session)
            sampling = SamplingSession(sampling_session_id=f"{name}:sample:0", session_id=name, path=None)
            await registry.sampling_sessions.add(sampling)
        run = TrainingRun(
            model_id="m", session_id="trained", lora=LoraShape(rank=2), metadata={}, created_at=0.0, last_request_at=0.0
        )
        await registry.runs.add(run)
        await registry.sessions.prune(5.0)
        left = {each.session_id for each in await registry.sessions.latest(9, 0)}
        assert left == {"trained", "young"}
        samplers = [await registry.sampling_sessions.of_session(name) for name in ("unused", "trained", "young")]
        assert [len(each) for each in samplers] == [0, 0, 1]


def filled(directory):
    directory.mkdir(parents=True)
    (directory / "file").write_bytes(b"x")
    return directory


async def test_what_killed_processes_left_of_checkpoints_is_removed_and_nothing_else(tmp_path):
    root = tmp_path / "checkpoints"
    unfinished = filled(root / "run-1" / "weights" / ".unfinished-step-2")
    kept = filled(root / "run-1" / "weights" / "step-1")
    deleted = filled(root / "run-1" / "sampler_weights" / "v1")
    async with open_database(tmp_path / "server.db") as database:
        checkpoints = Registry(database).everything.checkpoints
        for path, directory in (("weights/step-1", kept), ("sampler_weights/v1", deleted)):
            checkpoint = Checkpoint(
                path=parse_path(f"tinker://run/{path}"), directory=directory, lora=LoraShape(rank=2), base_digest="d",
                size_bytes=1, created_at=0.0, expires_at=None, is_ephemeral=False, is_public=False, metadata={},
            )  # fmt: skip
            await checkpoints.add(checkpoint)
        await checkpoints.mark_deleted(parse_path("tinker://run/sampler_weights/v1"), 1.0)
        await sweep_left(root, Registry(database))
        left = await asyncio.to_thread(lambda: [each.exists() for each in (unfinished, kept, deleted)])
    assert left == [False, True, False]


async def test_a_checkpoint_whose_time_is_over_is_not_given_out_and_then_deleted(tmp_path):
    now = [0.0]
    async with open_database(tmp_path / "server.db") as database:
        registry = Registry(database)
        store = CheckpointStore(
            root=tmp_path, registry=registry, clock=lambda: now[0], base_name="base",
            models=None, engine=None,  # pyright: ignore[reportArgumentType] - only saving needs them
        )  # fmt: skip
        paths = {name: parse_path(f"tinker://run/weights/{name}") for name in ("short", "long", "kept")}
        for (name, path), expires_at in zip(paths.items(), (10.0, 20.0, None), strict=True):
            checkpoint = Checkpoint(
                path=path, directory=filled(tmp_path / name), lora=LoraShape(rank=2), base_digest="d", size_bytes=1,
                created_at=0.0, expires_at=expires_at, is_ephemeral=False, is_public=False, metadata={},
            )  # fmt: skip
            await registry.everything.checkpoints.add(checkpoint)
        now[0] = 11.0
        with pytest.raises(NotFoundError, match=r"tinker://run/weights/short has expired"):
            await store.get(ADMIN, paths["short"])
        await store.delete_expired()
        assert [(tmp_path / name).exists() for name in paths] == [False, True, True]
        await registry.everything.checkpoints.set_expiry(paths["long"], None)
        now[0] = 1e9
        await store.delete_expired()
        assert [(tmp_path / name).exists() for name in paths] == [False, True, True]
        assert await registry.everything.checkpoints.is_name_taken(paths["short"]), "its name never means other weights"
