"""Which skills fit a text, by its words and by its meaning.

Owns the vectors of skills and joining both rankings; refuses to know where vectors come from. Invariant: no turn waits
for the vectors of skills, and without vectors the words decide alone, exactly as where no embedder is configured.

Numpy is needed: this module is loaded where an embedder is configured.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.fusion import fuse
from metaclaw.retrieval.likeness import Likeness
from metaclaw.retrieval.vector_cache import VectorCache
from metaclaw.retrieval.vectors import Vectors
from metaclaw.skills.library import AgentSkills
from metaclaw.skills.ranking import Ranked
from metaclaw.skills.skill import Skill

_MAX_VIEWS = 64  # agents with skills of their own, and as many that were there before a change
_NEAREST = 20
_WORDS, _MEANING = "words", "meaning"


@dataclass(slots=True)
class _Prepared:
    skills: AgentSkills  # held, so that no other gets its address
    task: asyncio.Task[Likeness | None]


class SkillMeanings:
    """Ranks skills; ``folder`` is where their vectors are kept. What is nearer than ``min_likeness`` fits."""

    def __init__(self, embedder: Breaker, folder: Path, *, min_likeness: float) -> None:
        self._embedder = embedder
        self._cache = VectorCache(folder, embedder.name)
        self._min_likeness = min_likeness
        self._prepared: OrderedDict[int, _Prepared] = OrderedDict()

    async def ranked(self, text: str, skills: AgentSkills) -> list[Ranked]:
        """The skills of ``skills`` that fit ``text``, best first."""
        by_words = skills.ranking.ranked(text)
        likeness = self._likeness_now(skills)
        if likeness is None or not text.strip():
            return by_words
        query = await self._embedder.embed([text], kind="query")
        if query is None:
            return by_words
        fused = fuse(
            {
                _WORDS: [(ranked.skill.name, ranked.score) for ranked in by_words],
                _MEANING: likeness.nearest(query, _NEAREST),
            },
            floors={_MEANING: self._min_likeness},
        )
        return [Ranked(skills.by_name[one.key], one.score) for one in fused]

    async def close(self) -> None:
        """Give up what was begun."""
        tasks = [prepared.task for prepared in self._prepared.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def prepare(self, skills: AgentSkills) -> bool:
        """Wait until the vectors of ``skills`` are there; whether they are."""
        self._likeness_now(skills)
        return await asyncio.shield(self._prepared[id(skills)].task) is not None

    def _likeness_now(self, skills: AgentSkills) -> Likeness | None:
        """What is known of ``skills`` by now; what is missing is begun."""
        known = self._prepared.get(id(skills))
        has_failed = known is not None and known.task.done() and known.task.result() is None
        if known is None or (has_failed and not self._embedder.is_resting):
            known = _Prepared(skills, asyncio.create_task(self._prepare(list(skills.by_name.values()))))
            self._prepared[id(skills)] = known
            while len(self._prepared) > _MAX_VIEWS:
                self._prepared.popitem(last=False)
        self._prepared.move_to_end(id(skills))
        return known.task.result() if known.task.done() else None

    async def _prepare(self, skills: list[Skill]) -> Likeness | None:
        texts = {skill.name: purpose_of(skill) for skill in skills}
        if not texts:
            return None
        vectors = await asyncio.to_thread(self._cache.load, texts.values())
        missing = sorted({text for text in texts.values() if text not in vectors})
        if missing:
            made = await self._embedder.embed(missing, kind="passage")
            if made is None:
                return None
            new: Mapping[str, Vectors] = dict(zip(missing, made, strict=True))
            await asyncio.to_thread(self._cache.add, new)
            vectors |= new
        return await asyncio.to_thread(Likeness, list(texts), np.stack([vectors[text] for text in texts.values()]))


def purpose_of(skill: Skill) -> str:
    """What a skill is for, as it is compared with what is asked for."""
    # The body tells how it is done, which is worded unlike what is asked for.
    return f"{skill.name.replace('-', ' ')}: {skill.description}"
