"""Versions of policies, and which of them serves.

Owns the tables ``versions``, ``serving``, ``serving_history`` and ``canaries`` of ``learning.db``; refuses to know how
a version is made. Invariant: what serves is a committed version whose weights were not deleted, or the base model.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from metaclaw.errors import ConflictError, NotFoundError
from metaclaw.journal.learning_connection import LearningConnection
from metaclaw.journal.learning_records import BASE_VERSION, Canary, NewVersion, Version
from metaclaw.journal.saved_weights import disown_versions, own


class Versions(LearningConnection):
    """What serves whom, and what could."""

    def serving(self, agent: str) -> int:
        """The version that serves ``agent``; ``BASE_VERSION`` when nothing was trained or all was rolled back."""
        with self._read() as db:
            return serving(db, agent)

    def next_version(self, agent: str) -> int:
        """The number that the next committed version of ``agent`` gets."""
        with self._read() as db:
            return next_version(db, agent)

    def version(self, agent: str, number: int) -> Version:
        """One committed version; raises ``NotFoundError``."""
        with self._read() as db:
            row = db.execute("SELECT * FROM versions WHERE agent = ? AND version = ?", (agent, number)).fetchone()
        if row is None:
            raise NotFoundError(f"agent {agent!r} has no version {number}")
        return Version(**dict(row))

    def versions(self, agent: str) -> list[Version]:
        """All committed versions of ``agent``, oldest first."""
        with self._read() as db:
            rows = db.execute("SELECT * FROM versions WHERE agent = ? ORDER BY version", (agent,)).fetchall()
        return [Version(**dict(row)) for row in rows]

    def serve(self, agent: str, number: int, why: str) -> None:
        """Let another version serve; ``BASE_VERSION`` is always possible.

        Raises ``NotFoundError`` for one that never was, ``ConflictError`` for one whose weights were deleted.
        """
        if number != BASE_VERSION:
            self.version(agent, number)
        with self._write() as db:
            if number in _deleted(db, agent):
                raise ConflictError(
                    f"the weights of version {number} of {agent!r} were deleted, as those of all old versions are: "
                    "choose a newer one, or 0 for the base model"
                )
            serve(db, agent, number, why, self._clock())

    def canary(self, agent: str) -> Canary | None:
        """The version that is tried on a share of ``agent``'s sessions."""
        with self._read() as db:
            row = db.execute("SELECT * FROM canaries WHERE agent = ?", (agent,)).fetchone()
        return None if row is None else Canary(**dict(row))

    def canaries(self) -> list[Canary]:
        """Of all agents."""
        with self._read() as db:
            rows = db.execute("SELECT * FROM canaries ORDER BY agent").fetchall()
        return [Canary(**dict(row)) for row in rows]

    def end_canary(self, canary: Canary, why: str, *, serves: bool) -> None:
        """Let it serve all new sessions, or none. Raises ``ConflictError`` when it ended already."""
        with self._write() as db:
            query = "DELETE FROM canaries WHERE agent = ? AND version = ?"
            if not db.execute(query, (canary.agent, canary.version)).rowcount:
                raise ConflictError(f"version {canary.version} of {canary.agent!r} is not tried any more")
            if serves:
                serve(db, canary.agent, canary.version, why, self._clock())
            else:
                _note(db, canary.agent, serving(db, canary.agent), why, self._clock())

    def retire(self, agent: str, *, keep: Collection[int]) -> list[Version]:
        """Mark all versions but ``keep`` and the one that serves as deleted; return those that were not before.

        Their weights are nobody's from then on.
        """
        with self._write() as db:
            rows = db.execute(
                """
                UPDATE versions SET deleted_at = ?
                WHERE agent = ? AND deleted_at IS NULL AND version <> ?
                    AND version NOT IN (SELECT value FROM json_each(?))
                RETURNING *
                """,
                (self._clock(), agent, serving(db, agent), json.dumps(list(keep))),
            ).fetchall()
            disown_versions(db, self._clock(), [row["sampler_path"] for row in rows])
        return sorted((Version(**dict(row)) for row in rows), key=lambda version: version.version)


def add_version(
    db: sqlite3.Connection, agent: str, number: int, update_id: int, parent: int, new: NewVersion, now: float
) -> Version:
    """Within the caller's transaction, write down the next version of ``agent``, which does not serve yet.

    Raises ``ConflictError`` when ``number`` is not the next one.
    """
    if number != next_version(db, agent):
        raise ConflictError(f"version {number} of {agent!r} is not the next one")
    row = db.execute(
        """
        INSERT INTO versions
            (agent, version, parent, update_id, base_model, state_path, sampler_path, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *
        """,
        (agent, number, parent, update_id, new.base_model, new.state_path, new.sampler_path, now),
    ).fetchone()
    own(db, agent, new, now)
    return Version(**dict(row))


def try_version(db: sqlite3.Connection, agent: str, number: int, share: float, now: float) -> None:
    """Within the caller's transaction, let a version answer a share of new sessions."""
    db.execute("INSERT INTO canaries VALUES (?, ?, ?, ?)", (agent, number, share, now))
    _note(db, agent, serving(db, agent), f"version {number} is tried on {share:.0%} of new sessions", now)


def serve(db: sqlite3.Connection, agent: str, number: int, why: str, now: float) -> None:
    """Within the caller's transaction, let a version serve."""
    db.execute("INSERT OR REPLACE INTO serving (agent, version, since) VALUES (?, ?, ?)", (agent, number, now))
    db.execute("DELETE FROM canaries WHERE agent = ?", (agent,))  # whatever was tried was to follow another one
    _note(db, agent, number, why, now)


def serving(db: sqlite3.Connection, agent: str) -> int:
    """The version that serves ``agent``."""
    row = db.execute("SELECT version FROM serving WHERE agent = ?", (agent,)).fetchone()
    return BASE_VERSION if row is None else row["version"]


def next_version(db: sqlite3.Connection, agent: str) -> int:
    """The number after the newest of ``agent``."""
    row = db.execute("SELECT coalesce(max(version), 0) + 1 FROM versions WHERE agent = ?", (agent,)).fetchone()
    return row[0]


def _deleted(db: sqlite3.Connection, agent: str) -> set[int]:
    rows = db.execute("SELECT version FROM versions WHERE agent = ? AND deleted_at IS NOT NULL", (agent,))
    return {row["version"] for row in rows}


def _note(db: sqlite3.Connection, agent: str, number: int, why: str, now: float) -> None:
    db.execute(
        "INSERT INTO serving_history (agent, version, since, why) VALUES (?, ?, ?, ?)", (agent, number, now, why)
    )
