"""What a tenant of the training server sees: sessions, runs, checkpoints, samplers and answers of its own key.

Its routes, with a real server behind them, are in ``tests/training/api/test_tenants.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from metaclaw.errors import MetaClawError, NotFoundError
from metaclaw.training.api.database import open_database
from metaclaw.training.api.futures import Futures, Result
from metaclaw.training.api.records import Checkpoint, CheckpointPath, LoraShape, SamplingSession, Session, TrainingRun
from metaclaw.training.api.registry import Registry, View
from metaclaw.training.api.tenants import Tenant
from tests.isolation.canaries import AGENTS, canary, whose_are_in

MINE = AGENTS[:3]


def tenant(agent: str) -> Tenant:
    return Tenant(key_id=f"key-{agent}", name=agent)


def path_of(agent: str) -> CheckpointPath:
    return CheckpointPath(model_id=f"run-{agent}", kind="weights", name=canary(agent))


def sampled(agent: str) -> CheckpointPath:
    return CheckpointPath(model_id=f"run-{agent}", kind="sampler_weights", name=canary(agent))


async def plant(view: View, place: int, agent: str) -> None:
    word = canary(agent)
    await view.sessions.add(
        Session(
            session_id=f"session-{agent}", created_at=1.0, seen_at=1.0, finished_at=None, display_name=word,
            metadata={}, owner=tenant(agent).key_id,
        )
    )  # fmt: skip
    lora = LoraShape(rank=2)
    for number in range(place + 1):
        await view.runs.add(
            TrainingRun(
                model_id=f"run-{agent}" + f"-{number}" * bool(number), session_id=f"session-{agent}", lora=lora,
                metadata={"word": word}, created_at=1.0, last_request_at=1.0,
            )
        )  # fmt: skip
        name = CheckpointPath(model_id=f"run-{agent}", kind="weights", name=word + f"-{number}" * bool(number))
        await view.checkpoints.add(
            Checkpoint(
                path=name, directory=Path(f"/{word}/{number}"), lora=lora, base_digest="d", size_bytes=10 + place,
                created_at=1.0, expires_at=5.0, is_ephemeral=False, is_public=False, metadata={"word": word},
            )
        )  # fmt: skip
    await view.sampling_sessions.add(
        SamplingSession(sampling_session_id=f"sampler-{agent}", session_id=f"session-{agent}", path=sampled(agent))
    )


@asynccontextmanager
async def registry(tmp_path: Path) -> AsyncGenerator[Registry]:
    async with open_database(tmp_path / "server.db") as database:
        registry = Registry(database)
        for place, agent in enumerate(MINE):
            await plant(registry.everything, place, agent)
        yield registry


async def refused(question: Awaitable[object]) -> None:
    with pytest.raises(NotFoundError):
        await question


def test_every_list_and_count_is_of_the_own_key(tmp_path: Path) -> None:
    async def look() -> None:
        async with registry(tmp_path) as everything:
            for place, agent in enumerate(MINE):
                mine, own = everything.for_(tenant(agent)), place + 1
                runs, num_runs = await mine.runs.latest(99, 0)
                saved, num_saved = await mine.checkpoints.latest()
                expired = await mine.checkpoints.expired(9.0)
                sessions = await mine.sessions.latest(99, 0)
                for told in (runs, saved, expired, sessions):
                    assert whose_are_in(told) == {agent}
                everybodys = [f"session-{one}" for one in MINE]
                assert await mine.sessions.stale(everybodys, 9.0) == [f"session-{agent}"]
                assert [num_runs, len(runs), num_saved, len(saved), len(expired)] == [own] * 5
                assert await mine.checkpoints.num_bytes(tenant(agent).key_id) == own * (10 + place)
                assert await mine.checkpoints.num_bytes(tenant(MINE[place - 1]).key_id) == 0
                assert await everything.everything.checkpoints.num_bytes(tenant(agent).key_id) == own * (10 + place)

    asyncio.run(look())


def test_what_is_anothers_is_not_there_by_its_name_either(tmp_path: Path) -> None:
    async def look() -> None:
        async with registry(tmp_path) as everything:
            mine, theirs = everything.for_(tenant(MINE[0])), MINE[1]
            path = path_of(theirs)
            await refused(mine.sessions.get(f"session-{theirs}"))
            await refused(mine.runs.get(f"run-{theirs}"))
            await refused(mine.checkpoints.get(path))
            await refused(mine.checkpoints.readable(path))
            await refused(mine.sampling_sessions.get(f"sampler-{theirs}"))
            assert await mine.runs.of_session(f"session-{theirs}") == []
            assert await mine.sampling_sessions.of_session(f"session-{theirs}") == []
            assert (await mine.checkpoints.latest(model_id=f"run-{theirs}"))[0] == []
            assert not await mine.checkpoints.is_name_taken(path)

    asyncio.run(look())


def test_nothing_that_is_tried_on_anothers_changes_it(tmp_path: Path) -> None:
    async def look() -> None:
        async with registry(tmp_path) as everything:
            mine, theirs = everything.for_(tenant(MINE[0])), MINE[1]
            owner, path = everything.for_(tenant(theirs)), path_of(theirs)
            before = (
                await owner.sessions.get(f"session-{theirs}"),
                await owner.runs.get(f"run-{theirs}"),
                await owner.checkpoints.get(path),
            )
            for attempt in (
                mine.sessions.seen(f"session-{theirs}", 9.0),
                mine.sessions.finish(f"session-{theirs}", 9.0),
                mine.runs.used(f"run-{theirs}", 9.0),
                mine.checkpoints.set_public(path, True),
                mine.checkpoints.set_expiry(path, None),
                mine.checkpoints.mark_deleted(path, 9.0),
            ):
                await attempt
            assert before == (
                await owner.sessions.get(f"session-{theirs}"),
                await owner.runs.get(f"run-{theirs}"),
                await owner.checkpoints.get(path),
            )
            await owner.checkpoints.mark_deleted(path, 9.0)
            assert await mine.checkpoints.deleted() == []
            assert len(await owner.checkpoints.deleted()) == 1

    asyncio.run(look())


def test_what_is_given_up_of_one_key_is_nothing_of_another(tmp_path: Path) -> None:
    async def look() -> None:
        async with registry(tmp_path) as everything:
            idle = Session(
                session_id="idle", created_at=1.0, seen_at=1.0, finished_at=None, display_name=None, metadata={},
                owner=tenant(MINE[1]).key_id,
            )  # fmt: skip
            await everything.everything.sessions.add(idle)
            await everything.for_(tenant(MINE[0])).sessions.prune(9.0)
            theirs = everything.for_(tenant(MINE[1]))
            assert await theirs.sessions.get("idle") == idle
            assert len(await theirs.sampling_sessions.of_session(f"session-{MINE[1]}")) == 1

    asyncio.run(look())


def test_an_answer_is_for_whoever_asked(tmp_path: Path) -> None:
    async def look() -> None:
        now = 1.0
        futures = Futures(lambda: now)
        one, other = tenant(MINE[0]), tenant(MINE[1])
        asked = futures.open(one.key_id, "seq 1", b"d")

        async def work() -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(work())
        futures.attach(asked, task)
        futures.cancel(other, asked, Result(body=b"cancelled"))
        assert not task.cancelling()
        futures.finish(asked, Result(body=canary(MINE[0]).encode()))
        task.cancel()
        with pytest.raises(MetaClawError) as error:
            await futures.wait(other, asked, 0.0)
        assert whose_are_in(str(error.value)) == set()
        answer = await futures.wait(one, asked, 0.0)
        assert answer is not None
        assert whose_are_in(answer.body) == {MINE[0]}
        now = 1e9
        futures.expire()
        for who, why in ((one, "delivered"), (other, "never issued")):
            with pytest.raises(NotFoundError, match=why):
                await futures.wait(who, asked, 0.0)

    asyncio.run(look())
