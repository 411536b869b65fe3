"""What survives a restart of the training server: sessions, training runs, checkpoints, sampling sessions.

Owns the SQL on those tables; refuses to know the protocol and the workers. Invariant: every method is one short
transaction; a method that looks for one thing raises ``NotFoundError``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import ConflictError
from metaclaw.training.api.database import Database
from metaclaw.training.api.records import (
    Checkpoint,
    CheckpointPath,
    LoraShape,
    SamplingSession,
    Session,
    TrainingRun,
)

_LORA = "rank, train_mlp, train_attn, train_unembed"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Client programs."""

    db: Database

    async def add(self, session: Session) -> None:
        row = (
            session.session_id,
            session.created_at,
            session.seen_at,
            session.display_name,
            json.dumps(session.metadata),
        )
        await self.db.write(
            "INSERT INTO sessions (session_id, created_at, seen_at, display_name, metadata) VALUES (?, ?, ?, ?, ?)", row
        )

    async def get(self, session_id: str) -> Session:
        """Raises ``NotFoundError``, as every method here that looks for one thing."""
        row = await self.db.one(
            "SELECT * FROM sessions WHERE session_id = ?", (session_id,), f"session {session_id[:80]!r}"
        )
        return _session(row)

    async def latest(self, limit: int, offset: int) -> list[Session]:
        query = "SELECT * FROM sessions ORDER BY created_at DESC LIMIT ? OFFSET ?"
        return [_session(row) for row in await self.db.all(query, (limit, offset))]

    async def seen(self, session_id: str, at: float) -> None:
        await self.db.write("UPDATE sessions SET seen_at = max(seen_at, ?) WHERE session_id = ?", (at, session_id))

    async def finish(self, session_id: str, at: float) -> None:
        await self.db.write("UPDATE sessions SET finished_at = ? WHERE session_id = ?", (at, session_id))

    async def stale(self, among: Iterable[str], seen_before: float) -> list[str]:
        """Those of ``among`` that were not heard of since: as many look-ups, however many sessions there ever were."""
        query = (
            "SELECT session_id FROM json_each(?) CROSS JOIN sessions ON session_id = value"
            " WHERE finished_at IS NULL AND seen_at < ?"
        )
        rows = await self.db.all(query, (json.dumps(list(among)), seen_before))
        return [row["session_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class TrainingRuns:
    """Adapters in training, alive or not."""

    db: Database

    async def add(self, run: TrainingRun) -> None:
        row = (
            run.model_id, run.session_id, *_lora_values(run.lora), json.dumps(run.metadata), run.created_at,
            run.last_request_at,
        )  # fmt: skip
        await self.db.write(
            f"INSERT INTO training_runs (model_id, session_id, {_LORA}, metadata, created_at, last_request_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    async def get(self, model_id: str) -> TrainingRun:
        query = "SELECT * FROM training_runs WHERE model_id = ?"
        return _training_run(await self.db.one(query, (model_id,), f"model {model_id[:120]!r}"))

    async def latest(self, limit: int, offset: int) -> tuple[list[TrainingRun], int]:
        """Some runs, the latest first, and the number of all."""
        query = "SELECT * FROM training_runs ORDER BY created_at DESC, model_id LIMIT ? OFFSET ?"
        rows = await self.db.all(query, (limit, offset))
        (count,) = await self.db.all("SELECT count(*) AS n FROM training_runs", ())
        return [_training_run(row) for row in rows], count["n"]

    async def of_session(self, session_id: str) -> list[TrainingRun]:
        query = "SELECT * FROM training_runs WHERE session_id = ? ORDER BY created_at"
        return [_training_run(row) for row in await self.db.all(query, (session_id,))]

    async def used(self, model_id: str, at: float) -> None:
        await self.db.write("UPDATE training_runs SET last_request_at = ? WHERE model_id = ?", (at, model_id))


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Complete checkpoints on disk."""

    db: Database

    async def is_name_taken(self, path: CheckpointPath) -> bool:
        """Whether the path was ever given out, deleted or not."""
        query = "SELECT 1 FROM checkpoints WHERE model_id = ? AND kind = ? AND name = ?"
        return bool(await self.db.all(query, (path.model_id, path.kind, path.name)))

    async def add(self, checkpoint: Checkpoint) -> None:
        path = checkpoint.path
        row = (
            path.model_id, path.kind, path.name, str(checkpoint.directory), *_lora_values(checkpoint.lora),
            checkpoint.base_digest, checkpoint.size_bytes, checkpoint.created_at, checkpoint.expires_at,
            int(checkpoint.is_ephemeral), json.dumps(checkpoint.metadata),
        )  # fmt: skip
        await self.db.write(
            f"INSERT INTO checkpoints (model_id, kind, name, directory, {_LORA}, base_digest, size_bytes, created_at,"
            " expires_at, is_ephemeral, metadata) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    async def get(self, path: CheckpointPath) -> Checkpoint:
        query = "SELECT * FROM checkpoints WHERE model_id = ? AND kind = ? AND name = ? AND deleted_at IS NULL"
        return _checkpoint(await self.db.one(query, (path.model_id, path.kind, path.name), f"checkpoint {path}"))

    async def latest(
        self, *, model_id: str | None = None, kind: str | None = None, limit: int = -1, offset: int = 0
    ) -> tuple[list[Checkpoint], int]:
        """Named checkpoints, the latest first, and the number of all that match."""
        where = (
            "deleted_at IS NULL AND NOT is_ephemeral AND model_id = coalesce(?, model_id) AND kind = coalesce(?, kind)"
        )
        query = f"SELECT * FROM checkpoints WHERE {where} ORDER BY created_at DESC, name LIMIT ? OFFSET ?"
        rows = await self.db.all(query, (model_id, kind, limit, offset))
        (count,) = await self.db.all(f"SELECT count(*) AS n FROM checkpoints WHERE {where}", (model_id, kind))
        return [_checkpoint(row) for row in rows], count["n"]

    async def mark_deleted(self, path: CheckpointPath, at: float) -> None:
        await self.db.write(
            "UPDATE checkpoints SET deleted_at = ? WHERE model_id = ? AND kind = ? AND name = ?",
            (at, path.model_id, path.kind, path.name),
        )

    async def deleted(self) -> list[Path]:
        """The directories of checkpoints that are deleted, whether anything is left of them or not."""
        rows = await self.db.all("SELECT directory FROM checkpoints WHERE deleted_at IS NOT NULL")
        return [Path(row["directory"]) for row in rows]

    async def expired(self, at: float) -> list[Checkpoint]:
        rows = await self.db.all("SELECT * FROM checkpoints WHERE deleted_at IS NULL AND expires_at < ?", (at,))
        return [_checkpoint(row) for row in rows]

    async def set_expiry(self, path: CheckpointPath, expires_at: float | None) -> None:
        await self.db.write(
            "UPDATE checkpoints SET expires_at = ? WHERE model_id = ? AND kind = ? AND name = ?",
            (expires_at, path.model_id, path.kind, path.name),
        )

    async def set_public(self, path: CheckpointPath, is_public: bool) -> None:
        await self.db.write(
            "UPDATE checkpoints SET is_public = ? WHERE model_id = ? AND kind = ? AND name = ?",
            (int(is_public), path.model_id, path.kind, path.name),
        )


@dataclass(frozen=True, slots=True)
class SamplingSessions:
    """What sampling clients sample from."""

    db: Database

    async def add(self, sampling: SamplingSession) -> None:
        """Adding the same session again is a retry; the same id for other weights is a ``ConflictError``."""
        path = sampling.path
        row = (sampling.sampling_session_id, sampling.session_id, path and path.model_id, path and path.name)
        await self.db.write(
            "INSERT OR IGNORE INTO sampling_sessions (sampling_session_id, session_id, model_id, name)"
            " VALUES (?, ?, ?, ?)",
            row,
        )
        if await self.get(sampling.sampling_session_id) != sampling:
            raise ConflictError(f"sampling session {sampling.sampling_session_id} exists for other weights")

    async def get(self, sampling_session_id: str) -> SamplingSession:
        query = "SELECT * FROM sampling_sessions WHERE sampling_session_id = ?"
        return _sampling(
            await self.db.one(query, (sampling_session_id,), f"sampling session {sampling_session_id[:120]!r}")
        )

    async def of_session(self, session_id: str) -> list[SamplingSession]:
        return [
            _sampling(row)
            for row in await self.db.all("SELECT * FROM sampling_sessions WHERE session_id = ?", (session_id,))
        ]


@dataclass(frozen=True, slots=True)
class Registry:
    """All of it."""

    db: Database

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.db)

    @property
    def runs(self) -> TrainingRuns:
        return TrainingRuns(self.db)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.db)

    @property
    def sampling_sessions(self) -> SamplingSessions:
        return SamplingSessions(self.db)


def _lora_values(lora: LoraShape) -> tuple[int, int, int, int]:
    return lora.rank, int(lora.train_mlp), int(lora.train_attn), int(lora.train_unembed)


def _lora(row: sqlite3.Row) -> LoraShape:
    return LoraShape(
        rank=row["rank"], train_mlp=bool(row["train_mlp"]), train_attn=bool(row["train_attn"]),
        train_unembed=bool(row["train_unembed"]),
    )  # fmt: skip


def _session(row: sqlite3.Row) -> Session:
    return Session(**{**dict(row), "metadata": json.loads(row["metadata"])})


def _training_run(row: sqlite3.Row) -> TrainingRun:
    return TrainingRun(
        model_id=row["model_id"], session_id=row["session_id"], lora=_lora(row), metadata=json.loads(row["metadata"]),
        created_at=row["created_at"], last_request_at=row["last_request_at"],
    )  # fmt: skip


def _checkpoint(row: sqlite3.Row) -> Checkpoint:
    return Checkpoint(
        path=CheckpointPath(model_id=row["model_id"], kind=row["kind"], name=row["name"]),
        directory=Path(row["directory"]),
        lora=_lora(row),
        base_digest=row["base_digest"],
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        is_ephemeral=bool(row["is_ephemeral"]),
        is_public=bool(row["is_public"]),
        metadata=json.loads(row["metadata"]),
    )


def _sampling(row: sqlite3.Row) -> SamplingSession:
    path = None
    if row["model_id"] is not None:
        path = CheckpointPath(model_id=row["model_id"], kind="sampler_weights", name=row["name"])
    return SamplingSession(sampling_session_id=row["sampling_session_id"], session_id=row["session_id"], path=path)
