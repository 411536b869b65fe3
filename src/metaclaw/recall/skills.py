"""The skills folder as a source of recall.

Owns making candidates of skills; refuses to know how they are ranked. Invariant: what is served is what the library
shows at this moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from metaclaw.recall.candidates import Candidate, SkillView
from metaclaw.recall.sections import skill_section
from metaclaw.skills.library import AgentSkills, SkillLibrary
from metaclaw.skills.ranking import Ranked


class SkillRanker(Protocol):
    """Ranks by more than words."""

    async def ranked(self, text: str, skills: AgentSkills) -> list[Ranked]: ...

    async def close(self) -> None: ...


class LibrarySkills:
    """Skills of a library."""

    def __init__(self, library: SkillLibrary, meanings: SkillRanker | None = None) -> None:
        self._library = library
        self._meanings = meanings

    async def view(self, agent: str) -> SkillView:
        """What ``agent`` has now."""
        return _View(await self._library.visible(agent), self._meanings)


class _View:
    def __init__(self, skills: AgentSkills, meanings: SkillRanker | None) -> None:
        self._skills = skills
        self._meanings = meanings

    def is_served(self, name: str) -> bool:
        return name in self._skills.by_name

    async def found(self, text: str) -> Sequence[Candidate]:
        if self._meanings is None:
            best = self._skills.ranking.ranked(text)
        else:
            best = await self._meanings.ranked(text, self._skills)
        return [
            Candidate(
                kind="skill",
                item=ranked.skill.name,
                score=ranked.score,
                section=skill_section(ranked.skill.name, ranked.skill.description, ranked.skill.body),
            )
            for ranked in best
        ]
