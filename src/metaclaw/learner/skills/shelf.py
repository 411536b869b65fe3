"""How a skill that a model wrote comes into the skills folder.

Owns the file's metadata and the check that nobody changed what it is an edit of; refuses to know whether it helps.
Invariant: the file says that a model wrote it and which turns it was learned from, and a text that a human changed
meanwhile is never replaced. Doing it twice is doing it once.
"""

from __future__ import annotations

from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.journal.skill_records import Candidate
from metaclaw.learner.skills.views import BY_MODEL, ORIGIN, skill_of
from metaclaw.skills.layout import NOWHERE_ELSE, Own
from metaclaw.skills.library import AgentSkills
from metaclaw.skills.retired import set_retired
from metaclaw.skills.skill import FILE_NAME, Skill, parse_text, render_skill
from metaclaw.skills.writer import SkillWriter

_MAX_TURNS = 20  # that the file names; learning.db has all


class Shelf:
    """One skills folder; ``own`` are the folders of agents that keep theirs elsewhere."""

    def __init__(self, root: Path, own: Own = NOWHERE_ELSE) -> None:
        self._root = root
        self._writer = SkillWriter(root, own=own)

    def put(self, candidate: Candidate, visible: AgentSkills, why: str) -> None:
        """Serve a candidate as its agent's own skill from now on. Raises ``SkillError`` when that must not be."""
        there = self._writer.current(candidate.agent, candidate.name)
        now = None if there is None else parse_text(there, f"{candidate.agent}/{candidate.name}/{FILE_NAME}")
        if now is not None and _says(now, candidate.description, candidate.body):
            return  # the process died between the file and its record
        before = now or visible.by_name.get(candidate.name)
        base = candidate.base
        if (before is None) != (base is None) or (before and base and not _says(before, base.description, base.body)):
            raise SkillError(f"{candidate.name} was changed or made by somebody else since this was proposed")
        text = render_skill(_with_provenance(skill_of(candidate), candidate))
        self._writer.write(candidate.agent, text, by="model", why=why, replaces=there)

    def switch_off(self, agent: str, name: str) -> None:
        """Serve a skill no more; its file stays. Raises ``SkillError``."""
        set_retired(self._root, agent, name, retired=True)


def _says(skill: Skill, description: str, body: str) -> bool:
    return skill.description == description and skill.body.strip() == body.strip()


def _with_provenance(skill: Skill, candidate: Candidate) -> Skill:
    metadata = {
        ORIGIN: BY_MODEL,
        "author": candidate.author,
        "candidate": candidate.id,
        "turns": " ".join(candidate.turns[:_MAX_TURNS]),
    }
    return Skill(name=skill.name, description=skill.description, body=skill.body, metadata=metadata)
