"""Skills that learning.db has on experiment: half of the messages that they fit get them, each always or never."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from metaclaw.journal.skill_records import BaseSkill, Evolution, NewCandidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import TurnJournal
from metaclaw.recall.blocks import human_messages
from metaclaw.recall.candidates import About
from metaclaw.recall.composing import Budget
from metaclaw.recall.recaller import Recalled, Recaller
from metaclaw.recall.skills import LibrarySkills
from metaclaw.skills.experiments import Experiments
from metaclaw.skills.library import SkillLibrary
from metaclaw.skills.trial.arms import is_served

pytestmark = pytest.mark.anyio

TEXT = "how do I brew green tea?"


@asynccontextmanager
async def recalling(home: Path, trials: SkillTrials) -> AsyncIterator[tuple[Recaller, Experiments]]:
    """A recaller whose every look at the skills and the experiments is a fresh one."""
    ticks = iter(range(0, 10**9, 5))
    with_time = ticks.__next__
    trials.record_evolution(
        Evolution(agent="main", author="big", num_failures=1),
        [NewCandidate(id="c1", agent="main", name="tea", description="Brew green tea, black tea.", body="TRIED TEXT",
                      base=BaseSkill(description="Brew green tea.", body="OLD TEXT"), why="", author="big",
                      exchanges=(), turns=())],
    )  # fmt: skip
    trials.begin_experiment("c1", share=0.5, usual=0.0)
    folder = home / "skills" / "_shared" / "tea"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: tea\ndescription: Brew green tea.\n---\nOLD TEXT\n")
    experiments = Experiments(home / "learning.db", clock=with_time)
    async with TurnJournal(home / "turns.db") as journal:
        library = SkillLibrary(home / "skills", clock=with_time)
        source = LibrarySkills(library, experiments=experiments)
        budget = Budget(max_tokens=1200, max_skills=2, max_memories=0)
        yield Recaller(journal, skills=source, memories=None, budget=budget), experiments
        await experiments.close()


def drew(session: str) -> bool:
    return is_served("c1", human_messages([{"role": "user", "content": TEXT}], session)[-1].key.hash, 0.5)


async def ask(recaller: Recaller, session: str, *, agent: str = "main", turn: str = "t") -> Recalled:
    about = About(agent=agent, session=session)
    return await recaller.recall([{"role": "user", "content": TEXT}], about=about, turn_id=f"{turn}-{session}", now=1.0)


@pytest.fixture
def trials(tmp_path: Path):
    with SkillTrials.open(tmp_path / "learning.db") as opened:
        yield opened


async def test_the_message_decides_who_gets_the_tried_text_and_who_the_one_that_it_is_an_edit_of(tmp_path, trials):
    async with recalling(tmp_path, trials) as (recaller, _):
        sessions = [f"s{number}" for number in range(20)]
        assert len({drew(session) for session in sessions}) == 2
        for session in sessions:
            first = await ask(recaller, session)
            text = first.blocks[0]
            assert first.names == (("trial:c1",) if drew(session) else ("tea",))
            assert ("TRIED TEXT" in text, "OLD TEXT" in text) == (drew(session), not drew(session))
            assert (await ask(recaller, session, turn="again")).blocks == first.blocks
        assert (await ask(recaller, "s0", agent="other")).names == ("tea",)


async def test_what_is_turned_down_goes_at_once_and_what_is_adopted_stays_where_it_is(tmp_path, trials):
    session = next(name for name in map(str, range(99)) if drew(name))
    async with recalling(tmp_path, trials) as (recaller, experiments):
        first = await ask(recaller, session)
        trials.adopt("c1", "it helps")
        await ask(recaller, "elsewhere")
        await experiments.close()  # what that began to read is here
        assert (await ask(recaller, session)).blocks == first.blocks


async def test_nobody_is_given_what_was_rejected(tmp_path, trials):
    session = next(name for name in map(str, range(99)) if drew(name))
    async with recalling(tmp_path, trials) as (recaller, experiments):
        assert (await ask(recaller, session)).names == ("trial:c1",)
        trials.reject("c1", "it harms")
        await ask(recaller, "elsewhere")
        await experiments.close()
        assert (await ask(recaller, session, turn="u")).names != ("trial:c1",)
