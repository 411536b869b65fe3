"""What lies at the trainer because we saved it.

Owns the table ``saved_weights`` of ``learning.db``; refuses to know trainers, and why anything is saved. Invariants:
a name is written down before anything is saved under it, so that whatever dies meanwhile, what was saved is found; and
nothing that a version has is ever given out as what nobody needs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from metaclaw.journal.learning_connection import LearningConnection
from metaclaw.journal.learning_records import NewVersion

# What serves, or could again. It guards a deletion, so it is asked each time and nowhere remembered.
_IS_A_VERSIONS = """
    EXISTS (SELECT 1 FROM versions AS v WHERE v.deleted_at IS NULL AND v.sampler_path = saved_weights.sampler_path)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnownedWeights:
    """Files at the trainer that nobody needs. Where ``paths`` is empty, they are what is found under ``name`` of
    ``run``, as far as they were saved; times are Unix seconds."""

    name: str
    agent: str
    run: str
    paths: tuple[str, ...]
    begun_at: float


class WeightsLedger(LearningConnection):
    """What was saved is an update's that runs, then a version's or nobody's, and then gone."""

    def begin_saving(self, name: str, *, agent: str, run: str) -> None:
        """Something is about to be saved of ``run`` under ``name``, which was never used."""
        with self._write() as db:
            db.execute(
                "INSERT INTO saved_weights (name, agent, run, begun_at) VALUES (?, ?, ?, ?)",
                (name, agent, run, self._clock()),
            )

    def note_saved(self, name: str, *, state_path: str, sampler_path: str) -> None:
        """It lies there now."""
        with self._write() as db:
            db.execute(
                "UPDATE saved_weights SET state_path = ?, sampler_path = ? WHERE name = ?",
                (state_path, sampler_path, name),
            )

    def disown(self, name: str) -> None:
        """Nobody needs what was saved under ``name``, but a version that has it."""
        with self._write() as db:
            disown(db, self._clock(), name)

    def unowned(self) -> list[UnownedWeights]:
        """What is to be deleted, in the order in which nobody needed it any more."""
        with self._read() as db:
            rows = db.execute(
                f"""
                SELECT name, agent, run, state_path, sampler_path, begun_at FROM saved_weights
                WHERE unowned_since IS NOT NULL AND gone_at IS NULL AND NOT {_IS_A_VERSIONS}
                ORDER BY unowned_since, begun_at, name
                """
            ).fetchall()
        return [
            UnownedWeights(
                name=row["name"],
                agent=row["agent"],
                run=row["run"],
                paths=tuple(filter(None, (row["state_path"], row["sampler_path"]))),
                begun_at=row["begun_at"],
            )
            for row in rows
        ]

    def note_deleted(self, name: str, num_files: int, *, is_all: bool) -> None:
        """So many more files are gone; ``is_all``: there are no others, and nobody looks again."""
        with self._write() as db:
            db.execute(
                "UPDATE saved_weights SET num_deleted = num_deleted + ?, gone_at = ? WHERE name = ?",
                (num_files, self._clock() if is_all else None, name),
            )


def own(db: sqlite3.Connection, agent: str, version: NewVersion, now: float) -> None:
    """Within the caller's transaction, in which the version is written down: it has what was saved."""
    name = version.saved_as or version.sampler_path
    db.execute(
        """
        INSERT INTO saved_weights (name, agent, run, state_path, sampler_path, begun_at) VALUES (?, ?, '', ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET
            state_path = excluded.state_path, sampler_path = excluded.sampler_path, unowned_since = NULL
        """,
        (name, agent, version.state_path, version.sampler_path, now),
    )


def disown(db: sqlite3.Connection, now: float, name: str | None = None) -> int:
    """Within the caller's transaction: what was saved under ``name``, or all that is no version's; how many that is."""
    return db.execute(
        f"""
        UPDATE saved_weights SET unowned_since = ?1
        WHERE unowned_since IS NULL AND (?2 IS NULL OR name = ?2) AND NOT {_IS_A_VERSIONS}
        """,
        (now, name),
    ).rowcount


def disown_versions(db: sqlite3.Connection, now: float, sampler_paths: Collection[str]) -> None:
    """Within the caller's transaction, in which these versions were given up."""
    db.execute(
        """
        UPDATE saved_weights SET unowned_since = ?
        WHERE unowned_since IS NULL AND sampler_path IN (SELECT value FROM json_each(?))
        """,
        (now, json.dumps(list(sampler_paths))),
    )
