"""Whether a proposed skill is for what another one is for, by what both mean.

Owns the vectors and how near is too near; refuses to know words (``novelty``) and what becomes of a proposal.
Invariant: where no vectors are to be had nothing is near, and the words decide alone.

How near two texts are is another number in every model, so the bound is not a setting: it is measured on skills that
are known to be different (those that come with MetaClaw). Whatever is nearer than the nearest two of them, by a part of
what is left up to 1, is for the same. A model that cannot tell those apart has no say.

Numpy is needed: this module is loaded where an embedder is configured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.vector_cache import VectorCache
from metaclaw.retrieval.vectors import Vectors
from metaclaw.skills.meaning import purpose_of
from metaclaw.skills.skill import Skill

_PART_OF_THE_REST = 0.25


class ProposalMeanings:
    """Compares skills by meaning; ``folder`` is where vectors are kept, ``different`` are skills of which no two are
    for the same."""

    def __init__(self, embedder: Breaker, folder: Path, *, different: Sequence[Skill]) -> None:
        self._embedder = embedder
        self._cache = VectorCache(folder, embedder.name)
        self._different = different
        self._bound: float | None = None

    async def too_near(self, skill: Skill, others: Sequence[Skill]) -> tuple[Skill, float] | None:
        """The one of ``others`` that is for the same as ``skill``, and how near it is."""
        if not others:
            return None
        bound = await self._measured_bound()
        rows = await self._rows([skill, *others])
        if bound is None or rows is None:
            return None
        likeness = rows[1:] @ rows[0]
        best = int(np.argmax(likeness))
        return (others[best], float(likeness[best])) if likeness[best] >= bound else None

    async def _measured_bound(self) -> float | None:
        if self._bound is None and len(self._different) > 1:
            rows = await self._rows(self._different)
            if rows is not None:
                nearest = float(np.max(rows @ rows.T - 2 * np.eye(len(rows), dtype=np.float32)))
                self._bound = nearest + _PART_OF_THE_REST * (1 - nearest)
        return self._bound

    async def _rows(self, skills: Sequence[Skill]) -> Vectors | None:
        texts = [purpose_of(skill) for skill in skills]
        vectors = await asyncio.to_thread(self._cache.load, texts)
        missing = sorted({text for text in texts if text not in vectors})
        if missing:
            made = await self._embedder.embed(missing, kind="passage")
            if made is None:
                return None
            new = dict(zip(missing, made, strict=True))
            await asyncio.to_thread(self._cache.add, new)
            vectors |= new
        return np.stack([vectors[text] for text in texts])
