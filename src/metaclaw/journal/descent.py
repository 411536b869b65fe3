"""What was made of which turns.

Owns the queries over both journals that follow a turn to the skills and policy versions that were learned from it;
refuses to write and to know why anybody asks. Invariant: nothing is noted beside the record: a candidate has its turns
and a version its manifest, so what was learned later of an old turn is found as well.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metaclaw.journal.database import reading
from metaclaw.journal.holding import turns_that_held as held_since

_SCHEMA = 3  # of learning.db: the first with skills
RECALLED = """
    SELECT DISTINCT turn FROM recalls
    WHERE kind = 'memory' AND outcome = 'recalled' AND item IN (SELECT value FROM json_each(?))
"""
_SKILLS = """
    SELECT agent, name, state, turns FROM candidates
    WHERE EXISTS (SELECT 1 FROM json_each(candidates.turns) WHERE value IN (SELECT value FROM json_each(?)))
    ORDER BY agent, name, created_at
"""
_TRAINED = "SELECT agent, version, turn FROM manifests WHERE turn IN (SELECT value FROM json_each(?))"
_VERSIONS = """
    SELECT v.agent, v.version, v.parent, v.deleted_at IS NOT NULL, v.version = coalesce(s.version, 0)
    FROM versions AS v LEFT JOIN serving AS s ON s.agent = v.agent ORDER BY v.agent, v.version
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descendant:
    """A skill that was written for turns, or a version that was trained on them or that stands on one that was.

    ``state`` is that of the candidate, or ``serving``, ``kept`` or ``deleted``. ``clean_parent`` is the newest version
    below that has nothing of them; 0 is the base model.
    """

    kind: Literal["skill", "policy"]
    agent: str
    name: str
    state: str
    turns: tuple[str, ...] = ()
    clean_parent: int | None = None

    @property
    def is_served(self) -> bool:
        """Whether turns are answered with it now."""
        return self.state in ("adopted", "serving")


def turns_that_held(turns_db: Path, memories: Collection[str]) -> frozenset[str]:
    """The turns in whose prompts one of ``memories`` was, as far as the journal still has them."""
    if not memories or not turns_db.exists():
        return frozenset()
    with reading(turns_db) as connection:
        first = [turn for (turn,) in connection.execute(RECALLED, (_json(memories),)).fetchall()]
        return frozenset(turn for one in first for turn in held_since(connection, one))


def descendants(learning_db: Path, turns: Collection[str]) -> list[Descendant]:
    """What was learned from ``turns``. Raises ``JournalError``."""
    if not turns or not learning_db.exists():
        return []
    with reading(learning_db) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] < _SCHEMA:
            return []
        connection.execute("BEGIN")
        skills = [
            Descendant(kind="skill", agent=agent, name=name, state=state, turns=_common(json.loads(of), turns))
            for agent, name, state, of in connection.execute(_SKILLS, (_json(turns),)).fetchall()
        ]
        return skills + _versions(connection, turns)


def _versions(connection: sqlite3.Connection, turns: Collection[str]) -> list[Descendant]:
    trained: dict[tuple[str, int], list[str]] = {}
    for agent, version, turn in connection.execute(_TRAINED, (_json(turns),)).fetchall():
        trained.setdefault((agent, version), []).append(turn)
    clean_below: dict[tuple[str, int], int] = {}  # of each version that has something of the turns
    found: list[Descendant] = []
    for agent, version, parent, is_deleted, is_serving in connection.execute(_VERSIONS).fetchall():
        below = (agent, parent)
        clean = clean_below.get(below, int(parent))  # a parent is always the older one
        if (agent, version) not in trained and below not in clean_below:
            continue
        clean_below[agent, version] = clean
        state = "deleted" if is_deleted else "serving" if is_serving else "kept"
        own = tuple(sorted(trained.get((agent, version), ())))
        found.append(
            Descendant(
                kind="policy", agent=agent, name=f"{agent}@{version}", state=state, turns=own, clean_parent=clean
            )
        )
    return found


def _common(its: Iterable[str], turns: Collection[str]) -> tuple[str, ...]:
    among = frozenset(turns)
    return tuple(turn for turn in its if turn in among)


def _json(values: Collection[str]) -> str:
    return json.dumps(sorted(values))
