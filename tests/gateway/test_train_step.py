"""Training now, over HTTP: asked of the learner, answered as it answers, and only to the owner."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from metaclaw.journal.train_steps import TrainAnswer, TrainSteps
from tests.gateway.running import make_settings, running_gateway
from tests.gateway.test_access import make

pytestmark = pytest.mark.anyio
URL = "/v1/admin/train_step"


async def test_the_learners_answer_is_the_clients(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, mode="auto", rl={"model": "tiny", "judge": {"verifier": "checks:score"}})
    steps = TrainSteps(settings.requests_db)
    made = TrainAnswer(status="ok", agent="main", reason="version 3 serves", step=3, samples=16, mean_reward=0.5)

    async def learn() -> str:
        while not (waiting := await asyncio.to_thread(steps.waiting, 0.0)):  # noqa: ASYNC110 - another asks
            await asyncio.sleep(0.01)
        await asyncio.to_thread(steps.answer, waiting[0].id, made, 1.0)
        return waiting[0].agent

    async with running_gateway(settings) as gateway:
        for body, agent in (({}, "*"), ({"agent": "main"}, "main"), (b"", "*")):
            learner = asyncio.create_task(learn())
            async with gateway.post(body, URL) as answer:
                assert answer.status == 200
                assert await answer.json() == made.model_dump()
            assert await learner == agent
        async with gateway.post({"timeout": 0.01}, URL) as answer:
            assert answer.status == 504
        late = await asyncio.to_thread(steps.waiting, 9e9)
        assert late == [], "what nobody waits for is not done"
        async with gateway.post({"agents": "x"}, URL) as answer:
            assert answer.status == 400


async def test_nobody_but_the_owner_may_ask_and_without_a_trainer_it_says_so(tmp_path: Path) -> None:
    async with running_gateway(make_settings(tmp_path)) as gateway:
        async with gateway.post({}, URL) as answer:
            assert answer.status == 503
            assert "skills_only" in (await answer.json())["error"]["message"]
        async with gateway.post({}, URL, Authorization="Bearer wrong") as answer:
            assert answer.status == 401
        token, _ = await asyncio.to_thread(make, tmp_path)
        async with gateway.post({}, URL, Authorization=f"Bearer {token}") as answer:
            assert answer.status == 403


async def test_where_nothing_is_scored_nobody_waits_ten_minutes_to_hear_nothing(tmp_path: Path) -> None:
    async with (
        running_gateway(make_settings(tmp_path, mode="auto", rl={"model": "tiny"})) as gateway,
        gateway.post({}, URL) as answer,
    ):
        assert answer.status == 503
        assert "rl.judge.verifier" in (await answer.json())["error"]["message"]
