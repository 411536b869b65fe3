"""What taught a skill, and what was said before it, is not trained on once the skill is in force."""

from __future__ import annotations

import pytest

from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Sample, Version
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.skill_records import Evolution, NewCandidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.outcomes import Waiting
from tests.learner.update_world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    with LearningJournal.open(tmp_path / "learning.db", clock=lambda: 1.0) as learning:
        holds = PolicyHolds.open(tmp_path / "learning.db", clock=lambda: 1.0)
        async with TurnJournal(tmp_path / "turns.db") as turns:
            yield World(tmp_path, turns, learning, holds)
        holds.close()


def adopt(world: World, *turns: str, at: float, agent: str = "main") -> None:
    new = NewCandidate(
        id=f"c{at}", agent=agent, name=f"skill-{at:g}", description="d", body="b", base=None, why="w", author="big",
        exchanges=(), turns=turns,
    )  # fmt: skip
    with SkillTrials.open(world.folder / "learning.db", clock=lambda: at) as trials:
        trials.record_evolution(Evolution(agent=agent, author="big", num_failures=1), [new])
        trials.adopt(new.id, "it helps")


async def test_only_what_was_said_under_the_newest_generation_is_trained_on_and_the_rest_is_counted_by_rule(world):
    await world.converse(6, at=1.0)  # n0 to n5
    adopt(world, "n1", "n4", at=5.0)
    await world.converse(2, at=6.0)
    assert await world.updater().attempt("main") == Waiting(reason="2 of 4 judged exchanges")
    assert world.states() == {"expired": 6, "pending": 2}
    await world.converse(4, at=7.0)
    version = await world.updater().attempt("main")
    assert isinstance(version, Version)
    (status,) = read_status(world.folder / "learning.db")
    assert status.last_update is not None
    assert status.last_update.metrics["excluded"] == {"older_generation": 4, "skill_support": 2}
    assert status.consumed == 6


async def test_the_skills_of_another_agent_keep_nothing_out(world):
    await world.converse(6, at=1.0)
    adopt(world, "n1", at=5.0, agent="other")
    assert isinstance(await world.updater().attempt("main"), Version)
    assert world.states() == {"consumed": 6}


async def test_a_tool_loop_that_a_new_skill_fell_into_is_of_the_generation_in_which_it_began(world):
    adopt(world, at=5.0)
    loop = [
        Sample(turn=turn, exchange="loop", agent="main", version=0, reward=1.0, sampled_at=at)
        for turn, at in (("before", 4.0), ("after", 6.0))
    ]
    world.learning.record_verdict(exchange="loop", agent="main", judge="t", score=1.0, detail={}, samples=loop)
    assert [sample.generation for sample in world.learning.pending("main")] == [0, 1]
    await world.updater().attempt("main")
    assert world.learning.expired("main") == {"older_generation": 2}
