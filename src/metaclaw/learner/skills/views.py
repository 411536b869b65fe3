"""What an agent has of skills, as those see it who write and try new ones.

Owns the question which skills a model may edit; refuses to know how one is served. Invariant: what a human wrote into
an agent's own folder is never edited by a model. Skills that everybody has may be: the changed one becomes the agent's
own, and everybody's stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaclaw.journal.skill_records import Candidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.skills.library import AgentSkills, SkillLibrary
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import Skill

ORIGIN, BY_MODEL = "origin", "model"
_MAX_TURNED_DOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolvableSkills:
    """``all`` are served; of them ``editable`` may be edited; ``turned_down`` did not pass their trial."""

    all: tuple[Skill, ...]
    editable: tuple[Skill, ...]
    on_trial: tuple[Skill, ...] = ()
    turned_down: tuple[Skill, ...] = ()

    def nearest_first(self, text: str) -> list[Skill]:
        """All of them, those that fit ``text`` first."""
        fitting = SkillRanking(self.all).best(text)
        names = {skill.name for skill in fitting}
        return [*fitting, *(skill for skill in self.all if skill.name not in names)]


class LearnersSkills:
    """The served skills and the candidates."""

    def __init__(self, library: SkillLibrary, trials: SkillTrials) -> None:
        self._library = library
        self._trials = trials

    async def visible(self, agent: str) -> AgentSkills:
        """What is served now."""
        return await self._library.visible(agent)

    async def evolvable(self, agent: str) -> EvolvableSkills:
        """What there is, what may be edited, and what was proposed before."""
        visible = await self._library.visible(agent)
        with self._trials.reading() as reader:
            candidates = reader.candidates(agent=agent)
        on_trial = [skill_of(one) for one in candidates if one.state == "trial"]
        busy = {skill.name for skill in on_trial}
        turned_down = [skill_of(one) for one in candidates if one.state in ("rejected", "retired")]
        editable = [
            skill
            for skill in visible.by_name.values()
            if skill.name not in busy and may_edit(skill, visible.owners[skill.name], agent)
        ]
        return EvolvableSkills(
            all=tuple(visible.by_name.values()),
            editable=tuple(editable),
            on_trial=tuple(on_trial),
            turned_down=tuple(turned_down[-_MAX_TURNED_DOWN:]),
        )


def may_edit(skill: Skill, owner: str, agent: str) -> bool:
    """Whether a model may propose another text for ``skill``, which is in the layer of ``owner``."""
    return owner != agent or is_by_model(skill)


def is_by_model(skill: Skill) -> bool:
    """Whether a model wrote ``skill``, so that it may be retired by a rule."""
    return skill.metadata.get(ORIGIN) == BY_MODEL


def skill_of(candidate: Candidate) -> Skill:
    """What a candidate says."""
    return Skill(name=candidate.name, description=candidate.description, body=candidate.body)
