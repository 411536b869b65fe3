"""Which proposals say something new.

Owns putting words and meaning together; refuses to know how either is compared. Invariant: a proposal that is left out
is named with the skill that it repeats, and an edit is never compared with what it is an edit of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from metaclaw.learner.skills.views import EvolvableSkills
from metaclaw.skills.evolution.novelty import TOO_ALIKE, nearest
from metaclaw.skills.evolution.proposals import Draft
from metaclaw.skills.skill import Skill


class Meanings(Protocol):
    """The slice of ``ProposalMeanings`` that is used."""

    async def too_near(self, skill: Skill, others: Sequence[Skill]) -> tuple[Skill, float] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A draft that says what ``other`` says already, and how that is known."""

    draft: Draft
    other: Skill
    how: str

    @property
    def reason(self) -> str:
        return f"{self.draft.skill.name}: it says what {self.other.name} says ({self.how})"


async def sift(
    drafts: Sequence[Draft], skills: EvolvableSkills, meanings: Meanings | None, *, taken: Sequence[Draft] = ()
) -> tuple[list[Draft], list[Repeat]]:
    """The drafts that say something new, beside each other and beside ``taken`` too; and the others."""
    kept: list[Draft] = []
    repeats: list[Repeat] = []
    for draft in drafts:
        base = draft.base.name if draft.base else None
        others = [skill for skill in (*skills.all, *skills.on_trial, *skills.turned_down) if skill.name != base]
        others += [one.skill for one in (*taken, *kept)]
        if repeat := await _repeat(draft, others, meanings):
            repeats.append(repeat)
        else:
            kept.append(draft)
    return kept, repeats


async def _repeat(draft: Draft, others: Sequence[Skill], meanings: Meanings | None) -> Repeat | None:
    found = nearest(draft.skill, others)
    if found is not None and found[1] >= TOO_ALIKE:
        return Repeat(draft=draft, other=found[0], how=f"{found[1]:.2f} alike in words")
    near = await meanings.too_near(draft.skill, others) if meanings is not None else None
    return None if near is None else Repeat(draft=draft, other=near[0], how=f"{near[1]:.2f} alike in meaning")
