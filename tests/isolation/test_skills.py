"""Skills, the library and its caches: an agent is served its own and what is everybody's, whoever asked before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from metaclaw.errors import SkillError
from metaclaw.recall.skills import LibrarySkills
from metaclaw.skills.catalogue import all_entries, one_named, seen_by
from metaclaw.skills.history import SkillHistory
from metaclaw.skills.layout import SHARED
from metaclaw.skills.library import SkillLibrary
from metaclaw.skills.retired import set_retired
from metaclaw.skills.writer import SkillWriter
from tests.isolation.canaries import AGENTS, canary, whose_are_in

MINE, EVERYBODYS = AGENTS[:4], AGENTS[5]


def write(root: Path, owner: str, name: str, word: str) -> None:
    text = f"---\nname: {name}\ndescription: Write the harbour report\n---\nSign it with {word}.\n"
    SkillWriter(root).write(owner, text, by="human")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for agent in MINE[:3]:
        write(tmp_path, agent, "harbour-report", canary(agent))
    write(tmp_path, SHARED, "harbour-report", canary(EVERYBODYS))
    return tmp_path


def test_each_sees_its_own_above_what_is_everybodys(root: Path) -> None:
    async def seen() -> None:
        library = SkillLibrary(root)
        source = LibrarySkills(library)
        for agent in (*MINE, *reversed(MINE)):
            expected = {agent} if agent in MINE[:3] else {EVERYBODYS}
            visible = await library.visible(agent)
            assert whose_are_in([skill.body for skill in visible.by_name.values()]) == expected
            view = await source.view(agent)
            assert whose_are_in(await view.found("Write the harbour report", b"m")) == expected
        entries = all_entries(library.found(), library.retired())
        for agent in MINE[:3]:
            assert [one.owner for one in seen_by(entries, agent)] == [agent]
            assert one_named(entries, "harbour-report", agent).owner == agent
        assert one_named(entries, "harbour-report", MINE[3]).owner == SHARED

        write(root, MINE[0], "tide-table", canary(MINE[0]))
        await asyncio.to_thread(library.scan)
        entries = all_entries(library.found(), library.retired())
        assert one_named(entries, "tide-table", MINE[0]).owner == MINE[0]
        with pytest.raises(SkillError):
            one_named(entries, "tide-table", MINE[1])

    asyncio.run(seen())


def test_what_one_switches_off_is_served_to_the_others(root: Path) -> None:
    async def served() -> list[list[str]]:
        library = SkillLibrary(root)
        return [sorted((await library.visible(agent)).by_name) for agent in MINE]

    set_retired(root, MINE[0], "harbour-report", retired=True)
    assert asyncio.run(served()) == [[], *[["harbour-report"]] * 3]


def test_the_history_of_a_skill_is_its_owners(root: Path) -> None:
    history = SkillHistory(root)
    for agent in MINE[:3]:
        versions = history.log(agent)
        assert [(one.owner, one.number) for one in versions] == [(agent, 1)]
        assert whose_are_in([history.text(one) for one in versions]) == {agent}
