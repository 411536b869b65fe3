"""A skill on experiment is before the model for the messages that are drawn, until it is turned down."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaclaw.chat.messages import JsonObject
from metaclaw.journal.turns import TurnJournal
from metaclaw.recall.candidates import About
from metaclaw.recall.composing import Budget
from metaclaw.recall.recaller import Recalled, Recaller
from metaclaw.recall.skills import LibrarySkills
from metaclaw.skills.experiments import ExperimentView, OnExperiment
from metaclaw.skills.library import SkillLibrary
from metaclaw.skills.skill import Skill
from tests.recall.test_recall import FakeClock, said, user, write_skill

pytestmark = pytest.mark.anyio
ABOUT = About(agent="main", session="s")


class FakeExperiments:
    def __init__(self, share: float) -> None:
        skill = Skill(name="one", description="alpha beta", body="Tried words.")
        self.tried = OnExperiment(candidate="c1", agent="main", share=share, skill=skill)
        self.now = ExperimentView(experiments=(self.tried,), standing=frozenset({self.tried.item}))

    async def view(self) -> ExperimentView:
        return self.now


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def recaller(home: Path, journal: TurnJournal, experiments: FakeExperiments) -> Recaller:
    write_skill(home / "skills", "one", "alpha beta", body="Usual words.")
    source = LibrarySkills(SkillLibrary(home / "skills", clock=FakeClock()), experiments=experiments)
    return Recaller(journal, skills=source, memories=None, budget=Budget(max_tokens=900, max_skills=2, max_memories=0))


async def recall(recaller: Recaller, *messages: JsonObject) -> Recalled:
    return await recaller.recall(messages, about=ABOUT, turn_id="t", now=0.0)


async def test_who_is_drawn_gets_it_in_its_namesake_s_place_and_keeps_it_when_it_is_adopted(tmp_path: Path) -> None:
    experiments = FakeExperiments(share=1.0)
    async with TurnJournal(tmp_path / "turns.db") as journal:
        recalling = recaller(tmp_path, journal, experiments)
        first = await recall(recalling, user("alpha beta"))
        assert first.names == ("trial:c1",)
        assert "Tried words." in first.blocks[0]
        assert "Usual words." not in first.blocks[0]
        # It is over: what stands stays where it is, and nothing new gets it.
        experiments.now = ExperimentView(standing=experiments.now.standing)
        later = await recall(recalling, user("alpha beta"), said("ok"), user("something else"))
        assert later.blocks == first.blocks
        assert (await recall(recalling, user("alpha beta, please"))).names == ("one",)


async def test_what_is_turned_down_is_gone_at_once(tmp_path: Path) -> None:
    experiments = FakeExperiments(share=1.0)
    async with TurnJournal(tmp_path / "turns.db") as journal:
        recalling = recaller(tmp_path, journal, experiments)
        assert (await recall(recalling, user("alpha beta"))).names == ("trial:c1",)
        experiments.now = ExperimentView()
        assert await recall(recalling, user("alpha beta")) == Recalled()


async def test_who_is_not_drawn_has_what_everybody_has(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        recalling = recaller(tmp_path, journal, FakeExperiments(share=0.0))
        assert (await recall(recalling, user("alpha beta"))).names == ("one",)


async def test_a_skill_that_is_there_is_not_told_again_in_the_words_of_an_experiment(tmp_path: Path) -> None:
    experiments = FakeExperiments(share=1.0)
    view, experiments.now = experiments.now, ExperimentView()
    async with TurnJournal(tmp_path / "turns.db") as journal:
        recalling = recaller(tmp_path, journal, experiments)
        assert (await recall(recalling, user("alpha beta"))).names == ("one",)
        experiments.now = view
        again = await recall(recalling, user("alpha beta"), said("ok"), user("alpha beta again"))
        assert again.names == ()
