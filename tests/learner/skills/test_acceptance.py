"""The acceptance of trials, the whole way: turns through the gateway, replays by the learner's own job over HTTP.

The model is a stub that can convert units when the prompt tells it how; whether an answer is right is computed. What is
served before a trial, during it and after it is read from what reaches the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from metaclaw.chat.messages import text_of
from metaclaw.config import Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.skill_records import Evolution, NewCandidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.learner.assembly import Shared, jobs_for
from metaclaw.learner.judges.loading import load_judge
from metaclaw.upstreams.session import new_session
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway
from tests.learner.verifiers import FACTORS, UNIT

pytestmark = pytest.mark.anyio

UNITS = tuple(FACTORS)
HELPFUL, NEUTRAL, HARMFUL = UNITS[:5], UNITS[5:10], UNITS[10:]
NUM_ASKED = 22  # of each unit, before any skill is proposed
USUALLY_RIGHT, RIGHT_WITH_RULE = 0.4, 0.9


def body_of(unit: str) -> str:
    """What its skill says: how to convert, nothing that helps, or how to convert wrongly."""
    if unit in NEUTRAL:
        return f"Many sailors like {unit} more than any other measure. Be polite about it."
    factor = FACTORS[unit] + (unit in HARMFUL)
    return f"Multiply the number of {unit} by {factor}. Answer with the number alone."


def convert(body: dict[str, Any]) -> Answer:
    """Follow the rule where one stands in the prompt, nearly always; else know the answer less than half of the time.

    What it knows depends on all that the prompt says of the unit, so a text that says nothing useful is another draw.
    """
    question = text_of(body["messages"][-1]["content"])
    number, unit = re.findall(UNIT, question)[0]
    rule = re.search(rf"Multiply the number of {unit} by (\d+)", question)
    luck = hashlib.sha256(f"{number} {unit} {body_of(unit) in question}".encode()).digest()[0] / 256
    if rule is not None and luck < RIGHT_WITH_RULE:
        return Answer(text=str(int(number) * int(rule[1])))
    return Answer(text=str(int(number) * FACTORS[unit] + (luck >= USUALLY_RIGHT)))


async def ask(gateway: RunningGateway, unit: str, number: int) -> None:
    said = {"role": "user", "content": f"What are {number} {unit}?"}
    body = {"model": "metaclaw", "messages": [said]}
    async with gateway.post(body, **{"X-Session-Id": f"{unit}-{number}"}) as answer:
        assert answer.status == 200


async def ask_all(gateway: RunningGateway, unit: str) -> None:
    """In an order of their own: a trial may end after each of them."""
    for number in range(1, NUM_ASKED + 1):
        await ask(gateway, unit, number)


def propose(settings: Settings) -> None:
    """As the evolver would: one candidate for each unit."""
    new = [
        NewCandidate(
            id=f"id-{unit}", agent="main", name=unit, description=f"How to convert {unit}.", body=body_of(unit),
            base=None, why="", author="m", exchanges=(), turns=(),
        )
        for unit in UNITS
    ]  # fmt: skip
    with SkillTrials.open(settings.learning_db) as trials:
        trials.record_evolution(Evolution(agent="main", author="m", num_failures=1), new)


async def try_all(settings: Settings) -> dict[str, str]:
    """Let the learner's job work until there is nothing left to compare; what became of each skill."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session())
        journal = stack.enter_context(LearningJournal.open(settings.learning_db))
        judge = load_judge(settings.rl.judge, session)
        shared = Shared(settings=settings, journal=journal, session=session, judge=judge, closing=stack)
        [trying] = [job for job in jobs_for(shared) if job.name == "trying skills"]
        while await trying.step():
            pass
        with SkillTrials.open(settings.learning_db) as trials, trials.reading() as reader:
            return {one.name: one.state for one in reader.candidates()}


async def served(gateway: RunningGateway, llm: FakeLlm, number: int) -> set[str]:
    """The units whose skill reaches the model when they are asked about."""
    found: set[str] = set()
    for unit in UNITS:
        await ask(gateway, unit, number)
        if body_of(unit) in text_of(llm.requests[-1]["messages"][-1]["content"]):
            found.add(unit)
    return found


async def test_of_five_helpful_neutral_and_harmful_skills_the_helpful_ones_are_adopted_and_served(
    tmp_path: Path,
) -> None:
    async with fake_llm(convert) as llm:
        settings = make_settings(
            tmp_path,
            llm_url=llm.url,
            llm={"model_id": "m"},
            rl={"judge": {"verifier": "tests.learner.verifiers:converts_rightly"}},
            skills={"trial": {"replays_per_hour": 10_000, "share": 0}},
        )
        async with running_gateway(settings) as gateway:
            await asyncio.gather(*(ask_all(gateway, unit) for unit in UNITS))
            await gateway.recorder.flush()
            await asyncio.to_thread(propose, settings)
            assert await served(gateway, llm, 100) == set()
            await gateway.recorder.flush()
        became = await try_all(settings)
        adopted = {unit for unit, state in became.items() if state == "adopted"}
        assert len(adopted & {*HELPFUL}) >= 4
        assert adopted & {*HARMFUL} == set()
        assert len(adopted & {*NEUTRAL}) <= 1  # skills.trial.error is one in twenty
        assert all(became[unit] == "rejected" for unit in HARMFUL)
        async with running_gateway(settings) as gateway:  # another one: the first may know its skills for a second yet
            assert await served(gateway, llm, 101) == adopted
