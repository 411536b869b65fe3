"""The skills folder as a source of recall.

Owns making candidates of skills, those on experiment among them; refuses to know how they are ranked and drawn.
Invariant: what is served is what the library shows at this moment, and what is on experiment and was not turned down.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from metaclaw.recall.candidates import Candidate, SkillView
from metaclaw.recall.sections import skill_section
from metaclaw.skills.experiments import ExperimentView, OnExperiment
from metaclaw.skills.library import AgentSkills, SkillLibrary
from metaclaw.skills.ranking import Ranked, SkillRanking

_MAX_JOINED = 16  # indexes with skills on experiment


class SkillRanker(Protocol):
    """Ranks by more than words."""

    async def ranked(self, text: str, skills: AgentSkills) -> list[Ranked]: ...

    async def close(self) -> None: ...


class ExperimentSource(Protocol):
    """Which skills are on experiment."""

    async def view(self) -> ExperimentView: ...


class LibrarySkills:
    """Skills of a library, and those on experiment for the messages that are drawn for them."""

    def __init__(
        self,
        library: SkillLibrary,
        meanings: SkillRanker | None = None,
        experiments: ExperimentSource | None = None,
    ) -> None:
        self._library = library
        self._meanings = meanings
        self._experiments = experiments
        self._with_drawn: OrderedDict[tuple[str, ...], tuple[AgentSkills, AgentSkills]] = OrderedDict()

    async def view(self, agent: str) -> SkillView:
        """What ``agent`` has now."""
        skills = await self._library.visible(agent)
        experiments = ExperimentView() if self._experiments is None else await self._experiments.view()
        return _View(self, agent, skills, experiments)

    async def ranked(self, text: str, skills: AgentSkills) -> list[Ranked]:
        """Those of ``skills`` that fit, best first."""
        return skills.ranking.ranked(text) if self._meanings is None else await self._meanings.ranked(text, skills)

    async def with_drawn(self, skills: AgentSkills, drawn: Sequence[OnExperiment]) -> AgentSkills:
        """``skills`` with those on experiment in the place of their namesakes."""
        key = tuple(one.candidate for one in drawn)
        known = self._with_drawn.get(key)
        if known is None or known[0] is not skills:
            # An index takes long enough to be made off the loop, and once.
            known = skills, await asyncio.to_thread(_joined, skills, drawn)
            self._with_drawn[key] = known
            if len(self._with_drawn) > _MAX_JOINED:
                self._with_drawn.popitem(last=False)
        return known[1]


class _View:
    def __init__(self, source: LibrarySkills, agent: str, skills: AgentSkills, experiments: ExperimentView) -> None:
        self._source = source
        self._agent = agent
        self._skills = skills
        self._experiments = experiments

    def is_served(self, name: str) -> bool:
        return name in self._skills.by_name or name in self._experiments.standing

    async def found(self, text: str, message: bytes) -> Sequence[Candidate]:
        drawn = self._experiments.drawn(self._agent, message)
        skills = await self._source.with_drawn(self._skills, drawn) if drawn else self._skills
        items = {one.skill.name: one.item for one in drawn}
        return [
            Candidate(
                kind="skill",
                item=items.get(ranked.skill.name, ranked.skill.name),
                alias=ranked.skill.name,
                score=ranked.score,
                section=skill_section(ranked.skill.name, ranked.skill.description, ranked.skill.body),
            )
            for ranked in await self._source.ranked(text, skills)
        ]


def _joined(skills: AgentSkills, drawn: Sequence[OnExperiment]) -> AgentSkills:
    by_name = skills.by_name | {one.skill.name: one.skill for one in drawn}
    return AgentSkills(by_name=by_name, owners=skills.owners, ranking=SkillRanking(list(by_name.values())))
