"""Counting for ever, retiring what a model wrote, and doing what was asked."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from metaclaw.journal.requests import RequestStore
from metaclaw.journal.skill_records import Comparison
from metaclaw.journal.skill_trials import Recall
from metaclaw.learner.skills.asked import Asked
from metaclaw.learner.skills.shelf import Shelf
from metaclaw.learner.skills.tending import Tending, TendingRule
from tests.learner.skills.worlds import NOW, ScriptedEvolver, World
from tests.learner.skills.worlds import world as make_world

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0


@pytest.fixture
async def world(tmp_path: Path):
    async with make_world(tmp_path) as made:
        yield made


def tending(world: World) -> Tending:
    return Tending(
        turns_db=world.turns_db, trials=world.trials, shelf=Shelf(world.folder), rule=TendingRule(unused_days=30),
        clock=lambda: world.time[0],
    )  # fmt: skip


async def served(world: World, *, scores: list[float] = [], without: float = 1.0) -> None:  # noqa: B006
    """An adopted skill that was as good as ``without`` before, and what it came to since."""
    (candidate,) = world.propose("tables")
    for index in range(10):
        world.trials.compare(
            Comparison(candidate=candidate.id, exchange=f"r{index}", kind="replay", fits=True, with_score=1.0,
                       without_score=without)
        )  # fmt: skip
    await world.proving(None).adopt(candidate, "it helps")
    for index, score in enumerate(scores):
        exchange = f"x{index}"
        world.trials.keep_recalls(
            [Recall(skill="tables", exchange=exchange, agent="main", seq=index + 1, recalled_at=NOW + 1)]
        )
        world.learning.record_verdict(exchange=exchange, agent="main", judge="j", score=score, detail={}, samples=[])


async def test_an_adopted_skill_that_nobody_needs_is_retired_and_its_file_stays(world):
    await served(world)
    keeper = tending(world)
    await keeper.step()
    assert world.candidate("tables").state == "adopted"
    world.time[0] += 31 * DAY_S
    assert await keeper.step()
    assert world.candidate("tables").state == "retired"
    assert "not recalled for 30 days" in world.candidate("tables").reason
    assert "tables" not in (await world.skills.visible("main")).by_name
    assert (world.folder / "main" / "tables" / "SKILL.md").exists()


@pytest.mark.parametrize(("scores", "state"), [([-1.0] * 12, "retired"), ([1.0] * 12, "adopted"), ([], "adopted")])
async def test_an_adopted_skill_is_retired_when_it_does_worse_than_nothing_did(world, scores, state):
    await served(world, scores=scores, without=0.6)
    await tending(world).step()
    assert world.candidate("tables").state == state


async def test_a_trial_that_comes_to_nothing_is_given_up(world):
    world.propose("tables")
    world.time[0] += 31 * DAY_S
    await tending(world).step()
    assert world.candidate("tables").state == "rejected"


async def test_what_a_command_asks_for_is_done_and_answered(world, tmp_path):
    proving = world.proving(None)
    asked = Asked(
        requests_db=tmp_path / "requests.db", trials=world.trials, proving=proving,
        evolving=world.evolving(ScriptedEvolver()), failures=world.failures, clock=lambda: world.time[0],
    )  # fmt: skip
    assert not await asked.step()
    world.propose("tables")
    with closing(RequestStore.open(tmp_path / "requests.db")) as store:

        async def outcome(kind: str, subject: str) -> str:
            number = store.ask(kind, agent="main", subject=subject, now=NOW)
            assert await asked.step()
            answered = store.request(number)
            assert answered is not None
            return answered.outcome or ""

        assert "not decided yet" in await outcome("trial", "tables")
        assert "no skill 'nothing' on trial" in await outcome("adopt", "nothing")
        assert "generation 1" in await outcome("adopt", "tables")
        assert "tables" in (await world.skills.visible("main")).by_name
        assert "not served" in await outcome("retire", "tables")
        assert world.candidate("tables").state == "retired"
        assert "no exchange of main failed" in await outcome("evolve", "")
