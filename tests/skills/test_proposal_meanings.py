"""Proposals compared by meaning: the bound is measured, and without vectors nothing is near."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from metaclaw.errors import UpstreamError
from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.vectors import Vectors, unit_rows
from metaclaw.skills.evolution.meanings import ProposalMeanings
from metaclaw.skills.layout import starter_folders
from metaclaw.skills.skill import Skill, read_skill

pytestmark = pytest.mark.anyio

STARTERS = [read_skill(path) for path, _, _ in starter_folders()]
SAME = {"rezepte": "recipes", "kochen": "cook", "gäste": "guests", "für": "for", "schreiben": "write"}


class Embedder:
    """Each word has a direction of its own, in German the same one. ``lift`` makes all texts more alike."""

    def __init__(self, lift: float = 0.0) -> None:
        self.name = f"words-{lift}"
        self.is_down = False
        self._lift = lift

    async def embed(self, texts: Sequence[str], *, kind: str) -> Vectors:
        if self.is_down:
            raise UpstreamError("down", status=503)
        rows = unit_rows([sum(map(self._direction, re.findall(r"\w+", text.lower()))) for text in texts])
        return unit_rows(np.hstack([rows, np.full((len(rows), 1), self._lift, dtype=np.float32)]))

    def _direction(self, word: str) -> Vectors:
        seed = int.from_bytes(hashlib.sha256(SAME.get(word, word).encode()).digest()[:4])
        return np.random.default_rng(seed).standard_normal(256).astype(np.float32)


def skill(name: str, description: str) -> Skill:
    return Skill(name=name, description=description, body="Do it.")


KNOWN = skill("recipes", "Write recipes, cook for guests")
PROPOSED = skill("rezepte", "Schreiben: Rezepte, kochen für Gäste")


@pytest.mark.parametrize("lift", [0.0, 2.0])
async def test_the_same_purpose_in_another_language_is_near_whatever_numbers_a_model_gives(tmp_path: Path, lift: float):
    """A model that finds any two texts alike (as many do) must not refuse every proposal."""
    meanings = ProposalMeanings(Breaker(Embedder(lift)), tmp_path, different=STARTERS)
    found = await meanings.too_near(PROPOSED, [*STARTERS, KNOWN])
    assert found is not None
    assert found[0] is KNOWN
    for index, starter in enumerate(STARTERS):
        assert await meanings.too_near(starter, [*STARTERS[:index], *STARTERS[index + 1 :]]) is None
    assert await meanings.too_near(PROPOSED, []) is None


async def test_while_the_embedder_is_down_nothing_is_near(tmp_path: Path):
    embedder = Embedder()
    embedder.is_down = True
    meanings = ProposalMeanings(Breaker(embedder, clock=lambda: 0.0), tmp_path, different=STARTERS)
    assert await meanings.too_near(PROPOSED, [KNOWN]) is None
