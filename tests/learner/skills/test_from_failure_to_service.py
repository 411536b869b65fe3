"""The whole way with the jobs as the learner makes them: failures, an evolver and a model over HTTP, a served file."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from metaclaw.config import EvolverSettings, JudgeSettings, LlmSettings, RlSettings, Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.skill_reader import SkillReader
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.assembly import Shared, jobs_for
from metaclaw.learner.judges.loading import load_judge
from metaclaw.skills.skill import read_skill
from metaclaw.upstreams.session import new_session
from tests.fakes.judge_llm import judge_model
from tests.learner.recording import Said, record

pytestmark = pytest.mark.anyio

PROPOSAL = {
    "action": "create", "name": "chart-keys", "description": "Use for charts of tides.", "body": "Draw a key.",
    "edits": [], "failures": [1, 2], "why": "keys were missing",
}  # fmt: skip


async def test_from_failures_to_a_skill_that_is_served(tmp_path: Path):
    """In skills_only, with a judge and an evolver that refuses JSON schemas."""

    def evolve(body: dict) -> str | int:
        return (
            400 if body.get("response_format", {}).get("type") == "json_schema" else json.dumps({"skills": [PROPOSAL]})
        )

    def answer(body: dict) -> str:
        return "right" if "Skill chart-keys" in body["messages"][-1]["content"] else "wrong"

    async with contextlib.AsyncExitStack() as stack:
        evolver = await stack.enter_async_context(judge_model(evolve))
        model = await stack.enter_async_context(judge_model(answer))
        settings = Settings(
            home=tmp_path,
            llm=LlmSettings(api_base=model.url, model_id="m"),
            rl=RlSettings(judge=JudgeSettings(verifier="tests.learner.verifiers:is_right")),
            evolver=EvolverSettings(url=evolver.url, model="big"),
        )
        session = await stack.enter_async_context(new_session())
        journal = stack.enter_context(LearningJournal.open(settings.learning_db))
        judge = load_judge(settings.rl.judge, session)
        jobs = {
            job.name: job
            for job in jobs_for(Shared(settings=settings, journal=journal, session=session, judge=judge, closing=stack))
        }
        async with TurnJournal(settings.turns_db) as turns:
            for number in range(30):
                name, answered = f"x{number}", "wrong" if number < 3 else "right"
                now, human = time.time(), f"Charts of tides, port {number}"
                turn = Said(turn=name, exchange=name, session=name, human=human, answer=answered, sample=None)
                await record(turns, replace(turn, opened_at=now, closed_at=now))
            assert await jobs["judging"].step()
            assert await jobs["evolving skills"].step()
            for _ in range(40):
                if not await jobs["trying skills"].step():
                    break
        with SkillReader.open(settings.learning_db) as reader:
            (candidate,) = reader.candidates()
            assert candidate.state == "adopted", candidate.reason
            assert reader.generation("main") == 1
        assert read_skill(settings.skills_dir / "main" / "chart-keys", strict=True).metadata["origin"] == "model"
        assert {body["model"] for body in model.requests} == {"policy"}  # as the client asked
        for job in jobs.values():
            await job.step()
