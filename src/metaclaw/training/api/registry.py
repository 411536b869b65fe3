"""What survives a restart of the training server: sessions, training runs, checkpoints, sampling sessions.

Owns the SQL on those tables and whose a row is; refuses to know the protocol and the workers. Invariant: every method
is one short transaction; a method that looks for one thing raises ``NotFoundError``; and nothing is read or changed but
through the view of a tenant (``for_``) or of the server itself (``everything``), so that no filter can be forgotten:
what belongs to somebody else is, to the last word of the message, what does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import ConflictError
from metaclaw.training.api.database import Database
from metaclaw.training.api.records import Checkpoint, CheckpointPath, SamplingSession, Session, TrainingRun
from metaclaw.training.api.rows import checkpoint_of, lora_values, sampling_of, session_of, training_run_of
from metaclaw.training.api.tenants import Tenant

_AT = "model_id = ? AND kind = ? AND name = ?"
_LORA = "rank, train_mlp, train_attn, train_unembed"


@dataclass(frozen=True, slots=True)
class _Table:
    """What one tenant sees of a table; ``None`` sees all of it."""

    db: Database
    owner: str | None

    @property
    def mine(self) -> str:
        """The condition that every statement ends with; its values are ``me``."""
        return "TRUE" if self.owner is None else "owner = ?"

    @property
    def me(self) -> tuple[str, ...]:
        return () if self.owner is None else (self.owner,)


@dataclass(frozen=True, slots=True)
class Sessions(_Table):
    """Client programs."""

    async def add(self, session: Session) -> None:
        """Everything made in the session later belongs to its owner."""
        row = (
            session.session_id, session.created_at, session.seen_at, session.display_name,
            json.dumps(session.metadata), session.owner,
        )  # fmt: skip
        await self.db.write(
            "INSERT INTO sessions (session_id, created_at, seen_at, display_name, metadata, owner)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            row,
        )

    async def get(self, session_id: str) -> Session:
        """Raises ``NotFoundError``, as every method here that looks for one thing."""
        query = f"SELECT * FROM sessions WHERE session_id = ? AND {self.mine}"
        row = await self.db.one(query, (session_id, *self.me), f"session {session_id[:80]!r}")
        return session_of(row)

    async def latest(self, limit: int, offset: int) -> list[Session]:
        query = f"SELECT * FROM sessions WHERE {self.mine} ORDER BY created_at DESC LIMIT ? OFFSET ?"
        return [session_of(row) for row in await self.db.all(query, (*self.me, limit, offset))]

    async def seen(self, session_id: str, at: float) -> None:
        query = f"UPDATE sessions SET seen_at = max(seen_at, ?) WHERE session_id = ? AND {self.mine}"
        await self.db.write(query, (at, session_id, *self.me))

    async def finish(self, session_id: str, at: float) -> None:
        query = f"UPDATE sessions SET finished_at = ? WHERE session_id = ? AND {self.mine}"
        await self.db.write(query, (at, session_id, *self.me))

    async def stale(self, among: Iterable[str], seen_before: float) -> list[str]:
        """Those of ``among`` that were not heard of since: as many look-ups, however many sessions there ever were."""
        query = (
            "SELECT session_id FROM json_each(?) CROSS JOIN sessions ON session_id = value"
            f" WHERE finished_at IS NULL AND seen_at < ? AND {self.mine}"
        )
        rows = await self.db.all(query, (json.dumps(list(among)), seen_before, *self.me))
        return [row["session_id"] for row in rows]

    async def prune(self, seen_before: float) -> None:
        """Forget samplers of sessions that ended or were silent since, and those sessions that made no models."""
        gone = f"SELECT session_id FROM sessions WHERE seen_at < ? AND {self.mine}"
        await self.db.write(f"DELETE FROM sampling_sessions WHERE session_id IN ({gone})", (seen_before, *self.me))
        unused = (
            "NOT EXISTS (SELECT 1 FROM training_runs AS run WHERE run.session_id = sessions.session_id) AND"
            " NOT EXISTS (SELECT 1 FROM sampling_sessions AS one WHERE one.session_id = sessions.session_id)"
        )
        await self.db.write(
            f"DELETE FROM sessions WHERE seen_at < ? AND {self.mine} AND {unused}", (seen_before, *self.me)
        )


@dataclass(frozen=True, slots=True)
class TrainingRuns(_Table):
    """Adapters in training, alive or not."""

    async def add(self, run: TrainingRun) -> None:
        row = (
            run.model_id, run.session_id, *lora_values(run.lora), json.dumps(run.metadata), run.created_at,
            run.last_request_at,
        )  # fmt: skip
        await self.db.write(
            f"INSERT INTO training_runs (model_id, session_id, {_LORA}, metadata, created_at, last_request_at, owner)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT owner FROM sessions WHERE session_id = ?))",
            (*row, run.session_id),
        )

    async def get(self, model_id: str) -> TrainingRun:
        query = f"SELECT * FROM training_runs WHERE model_id = ? AND {self.mine}"
        return training_run_of(await self.db.one(query, (model_id, *self.me), f"model {model_id[:120]!r}"))

    async def latest(self, limit: int, offset: int) -> tuple[list[TrainingRun], int]:
        """Some runs, the latest first, and the number of all."""
        query = f"SELECT * FROM training_runs WHERE {self.mine} ORDER BY created_at DESC, model_id LIMIT ? OFFSET ?"
        rows = await self.db.all(query, (*self.me, limit, offset))
        (count,) = await self.db.all(f"SELECT count(*) AS n FROM training_runs WHERE {self.mine}", self.me)
        return [training_run_of(row) for row in rows], count["n"]

    async def of_session(self, session_id: str) -> list[TrainingRun]:
        query = f"SELECT * FROM training_runs WHERE session_id = ? AND {self.mine} ORDER BY created_at"
        return [training_run_of(row) for row in await self.db.all(query, (session_id, *self.me))]

    async def used(self, model_id: str, at: float) -> None:
        query = f"UPDATE training_runs SET last_request_at = ? WHERE model_id = ? AND {self.mine}"
        await self.db.write(query, (at, model_id, *self.me))


@dataclass(frozen=True, slots=True)
class Checkpoints(_Table):
    """Complete checkpoints on disk."""

    async def is_name_taken(self, path: CheckpointPath) -> bool:
        """Whether the path was ever given out, deleted or not."""
        query = f"SELECT 1 FROM checkpoints WHERE {_AT} AND {self.mine}"
        return bool(await self.db.all(query, self._at(path)))

    async def add(self, checkpoint: Checkpoint) -> None:
        path = checkpoint.path
        row = (
            path.model_id, path.kind, path.name, str(checkpoint.directory), *lora_values(checkpoint.lora),
            checkpoint.base_digest, checkpoint.size_bytes, checkpoint.created_at, checkpoint.expires_at,
            int(checkpoint.is_ephemeral), json.dumps(checkpoint.metadata),
        )  # fmt: skip
        await self.db.write(
            f"INSERT INTO checkpoints (model_id, kind, name, directory, {_LORA}, base_digest, size_bytes, created_at,"
            " expires_at, is_ephemeral, metadata, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
            " coalesce((SELECT owner FROM training_runs WHERE model_id = ?), ''))",
            (*row, path.model_id),
        )

    async def get(self, path: CheckpointPath) -> Checkpoint:
        """One that may be changed and deleted too."""
        query = f"SELECT * FROM checkpoints WHERE {_AT} AND {self.mine} AND deleted_at IS NULL"
        return checkpoint_of(await self.db.one(query, self._at(path), f"checkpoint {path}"))

    async def readable(self, path: CheckpointPath) -> Checkpoint:
        """One that may be sampled from and loaded: one's own, or a published one of anybody."""
        query = f"SELECT * FROM checkpoints WHERE {_AT} AND (is_public OR {self.mine}) AND deleted_at IS NULL"
        return checkpoint_of(await self.db.one(query, self._at(path), f"checkpoint {path}"))

    async def num_bytes(self, owner: str) -> int:
        """What the checkpoints of ``owner`` take on disk."""
        query = f"SELECT coalesce(sum(size_bytes), 0) AS n FROM checkpoints WHERE owner = ? AND {self.mine}"
        (row,) = await self.db.all(f"{query} AND deleted_at IS NULL", (owner, *self.me))
        return row["n"]

    async def latest(
        self, *, model_id: str | None = None, kind: str | None = None, limit: int = -1, offset: int = 0,
        with_published: bool = False,
    ) -> tuple[list[Checkpoint], int]:  # fmt: skip
        """Named checkpoints, the latest first, and the number of all that match."""
        where = (
            f"({self.mine} OR {'is_public' if with_published else 'FALSE'}) AND deleted_at IS NULL AND NOT is_ephemeral"
            " AND model_id = coalesce(?, model_id) AND kind = coalesce(?, kind)"
        )
        query = f"SELECT * FROM checkpoints WHERE {where} ORDER BY created_at DESC, name LIMIT ? OFFSET ?"
        rows = await self.db.all(query, (*self.me, model_id, kind, limit, offset))
        (count,) = await self.db.all(f"SELECT count(*) AS n FROM checkpoints WHERE {where}", (*self.me, model_id, kind))
        return [checkpoint_of(row) for row in rows], count["n"]

    async def mark_deleted(self, path: CheckpointPath, at: float) -> None:
        await self._set("deleted_at", at, path)

    async def deleted(self) -> list[Path]:
        """The directories of checkpoints that are deleted, whether anything is left of them or not."""
        query = f"SELECT directory FROM checkpoints WHERE deleted_at IS NOT NULL AND {self.mine}"
        return [Path(row["directory"]) for row in await self.db.all(query, self.me)]

    async def expired(self, at: float) -> list[Checkpoint]:
        query = f"SELECT * FROM checkpoints WHERE deleted_at IS NULL AND expires_at < ? AND {self.mine}"
        return [checkpoint_of(row) for row in await self.db.all(query, (at, *self.me))]

    async def set_expiry(self, path: CheckpointPath, expires_at: float | None) -> None:
        await self._set("expires_at", expires_at, path)

    async def set_public(self, path: CheckpointPath, is_public: bool) -> None:
        await self._set("is_public", int(is_public), path)

    async def _set(self, column: str, value: float | None, path: CheckpointPath) -> None:
        query = f"UPDATE checkpoints SET {column} = ? WHERE {_AT} AND {self.mine}"
        await self.db.write(query, (value, *self._at(path)))

    def _at(self, path: CheckpointPath) -> tuple[str, ...]:
        return (path.model_id, path.kind, path.name, *self.me)


@dataclass(frozen=True, slots=True)
class SamplingSessions(_Table):
    """What sampling clients sample from."""

    async def add(self, sampling: SamplingSession) -> None:
        """Adding the same session again is a retry; the same id for other weights is a ``ConflictError``."""
        path = sampling.path
        row = (sampling.sampling_session_id, sampling.session_id, path and path.model_id, path and path.name)
        await self.db.write(
            "INSERT OR IGNORE INTO sampling_sessions (sampling_session_id, session_id, model_id, name, owner)"
            " VALUES (?, ?, ?, ?, (SELECT owner FROM sessions WHERE session_id = ?))",
            (*row, sampling.session_id),
        )
        if await self.get(sampling.sampling_session_id) != sampling:
            raise ConflictError(f"sampling session {sampling.sampling_session_id} exists for other weights")

    async def get(self, sampling_session_id: str) -> SamplingSession:
        query = f"SELECT * FROM sampling_sessions WHERE sampling_session_id = ? AND {self.mine}"
        what = f"sampling session {sampling_session_id[:120]!r}"
        return sampling_of(await self.db.one(query, (sampling_session_id, *self.me), what))

    async def of_session(self, session_id: str) -> list[SamplingSession]:
        query = f"SELECT * FROM sampling_sessions WHERE session_id = ? AND {self.mine}"
        return [sampling_of(row) for row in await self.db.all(query, (session_id, *self.me))]


@dataclass(frozen=True, slots=True)
class View:
    """All that one tenant sees."""

    db: Database
    owner: str | None

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.db, self.owner)

    @property
    def runs(self) -> TrainingRuns:
        return TrainingRuns(self.db, self.owner)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.db, self.owner)

    @property
    def sampling_sessions(self) -> SamplingSessions:
        return SamplingSessions(self.db, self.owner)


@dataclass(frozen=True, slots=True)
class Registry:
    """All of it, through somebody's eyes."""

    db: Database

    def for_(self, tenant: Tenant) -> View:
        """What ``tenant`` sees: its own; all of it for an admin."""
        return View(self.db, None if tenant.is_admin else tenant.key_id)

    @property
    def everything(self) -> View:
        """For the server's own work on whatever there is; never for a request (a test holds that)."""
        return View(self.db, None)
