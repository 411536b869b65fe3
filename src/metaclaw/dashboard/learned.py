"""What was learned: policy versions, skills, memories.

Owns what of them is shown; refuses to know HTTP, and how anything is learned. Invariant: nothing is written: a
database of an older release stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from metaclaw.config import Settings
from metaclaw.journal.policy_reader import read_policies
from metaclaw.journal.skill_reader import SkillReader
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.times.asked import with_time
from metaclaw.skills.catalogue import all_entries
from metaclaw.skills.layout import STARTER_FOLDER
from metaclaw.skills.library import SkillLibrary

MOST_CANDIDATES = 50
MOST_MEMORIES = 100


def policies(settings: Settings) -> list[dict[str, Any]]:
    """Each agent's versions, what was refused, and what served since when. Raises ``JournalError``."""
    return [asdict(one) for one in read_policies(settings.learning_db, now=time.time())]


def skills(settings: Settings) -> dict[str, Any]:
    """The skills of all layers, what came of those that were recalled, and what evolvers wrote, the newest first.

    Raises ``JournalError``.
    """
    library = SkillLibrary(
        settings.skills_dir, starter=STARTER_FOLDER if settings.skills.starter else None, own=settings.own_skills_dirs
    )
    library.scan()
    entries = all_entries(library.found(), library.retired())
    with SkillReader.open(settings.learning_db) as reader:
        used = [asdict(utility) for agent in reader.agents() for utility in reader.utilities(agent)]
        candidates = sorted(reader.candidates(), key=lambda one: one.changed_at, reverse=True)
    return {
        "skills": [{**asdict(entry), "path": str(entry.path)} for entry in entries],
        "used": used,
        "candidates": [_without_body(asdict(one)) for one in candidates[:MOST_CANDIDATES]],
    }


def memories(settings: Settings, *, agent: str | None = None, words: str = "") -> list[dict[str, Any]]:
    """The newest memories, or with ``words`` those of ``agent`` (``main`` unless named) that fit them best.

    Raises ``JournalError``.
    """
    if not settings.memory_db.exists():
        return []
    with MemoryStore.open_reader(settings.memory_db) as store:
        if not store.is_made():
            return []
        if not words.strip():
            return [asdict(unit) for unit in store.latest(agent, limit=MOST_MEMORIES)]
        query = MemoryQuery(text=words, agent=agent or "main", now=time.time(), limit=MOST_MEMORIES, is_everything=True)
        return [{**asdict(found.unit), "score": found.score} for found in store.search(with_time(query))]


def _without_body(candidate: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in candidate.items() if name not in ("body", "base", "exchanges", "turns")}
