"""The skills folder as a source of recall.

Owns making candidates of skills; refuses to know how they are ranked. Invariant: what is served is what the library
shows at this moment.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.recall.candidates import Candidate, SkillView
from metaclaw.recall.sections import skill_section
from metaclaw.skills.library import AgentSkills, SkillLibrary


class LibrarySkills:
    """Skills of a library."""

    def __init__(self, library: SkillLibrary) -> None:
        self._library = library

    async def view(self, agent: str) -> SkillView:
        """What ``agent`` has now."""
        return _View(await self._library.visible(agent))


class _View:
    def __init__(self, skills: AgentSkills) -> None:
        self._skills = skills

    def is_served(self, name: str) -> bool:
        return name in self._skills.by_name

    def found(self, text: str) -> Sequence[Candidate]:
        return [
            Candidate(
                kind="skill",
                item=skill.name,
                score=score,
                section=skill_section(skill.name, skill.description, skill.body),
            )
            for skill, score in ((one.skill, one.score) for one in self._skills.ranking.ranked(text))
        ]
