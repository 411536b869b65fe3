"""Checkpoints between the engine, the disk and the registry.

Owns where a checkpoint's directory is and when it is recorded; refuses to know what is in it. Invariant: a
registered checkpoint is complete, its path never means other weights later, and nothing is ever overwritten.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import InvalidRequestError, NotFoundError, QuotaError
from metaclaw.training.api.models import LiveModel, LiveModels
from metaclaw.training.api.records import Checkpoint, CheckpointPath
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.api.workers import Worker
from metaclaw.training.checkpoints import sweep_unfinished
from metaclaw.training.commands import SaveSampler, SaveState

INCOMING = ".incoming-"  # what is being sent to us

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """What a client may say about a checkpoint."""

    expires_at: float | None
    metadata: dict[str, str]
    is_ephemeral: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStore:
    """Saves, finds and deletes checkpoints under ``root``."""

    root: Path
    registry: Registry
    models: LiveModels
    engine: Worker
    clock: Callable[[], float]
    base_name: str  # how programs elsewhere call the base model

    async def save(self, tenant: Tenant, model: LiveModel, path: CheckpointPath, options: SaveOptions) -> Checkpoint:
        """Write a new checkpoint of ``model``. Raises ``InvalidRequestError`` when the name was used before,
        ``QuotaError`` when what is stored is more than the key may have. (How much a checkpoint takes is known when it
        is there; so the last one may go over.)"""
        if await self.registry.everything.checkpoints.is_name_taken(path):
            raise InvalidRequestError(
                f"{path} exists or existed already; checkpoints are never overwritten, choose a new name"
            )
        await self.check_room(tenant, model.owner)
        directory = self.directory(path)
        await asyncio.to_thread(_clear, directory)
        answer = await self.models.call(model, self._command(model.model_id, path, str(directory)))
        run = await self.registry.everything.runs.get(model.model_id)
        base = await self.engine.ready()
        checkpoint = Checkpoint(
            path=path,
            directory=directory,
            lora=run.lora,
            base_digest=base.base_digest,
            size_bytes=answer["size_bytes"],
            created_at=self.clock(),
            expires_at=options.expires_at,
            is_ephemeral=options.is_ephemeral,
            is_public=False,
            metadata=dict(options.metadata),
        )
        await self.registry.everything.checkpoints.add(checkpoint)
        return checkpoint

    async def get(self, tenant: Tenant, path: CheckpointPath) -> Checkpoint:
        """A checkpoint that ``tenant`` can sample from or load now, or ``NotFoundError``."""
        checkpoint = await self.registry.for_(tenant).checkpoints.readable(path)
        if checkpoint.expires_at is not None and checkpoint.expires_at < self.clock():
            raise NotFoundError(f"checkpoint {path} has expired")
        return checkpoint

    async def delete(self, checkpoint: Checkpoint) -> None:
        """Forget first, then remove: a crash in between leaves files that nobody can load, not a broken checkpoint."""
        await self.registry.everything.checkpoints.mark_deleted(checkpoint.path, self.clock())
        await asyncio.to_thread(shutil.rmtree, checkpoint.directory, True)

    async def delete_expired(self) -> None:
        for checkpoint in await self.registry.everything.checkpoints.expired(self.clock()):
            await self.delete(checkpoint)

    async def check_room(self, tenant: Tenant, owner: str, size_bytes: int = 1) -> None:
        """Raise ``QuotaError`` when so much more would be more than the key may have."""
        quota = tenant.quotas.max_bytes
        if quota is None:
            return
        stored = await self.registry.everything.checkpoints.num_bytes(owner)
        if stored + size_bytes > quota:
            raise QuotaError(
                f"the checkpoints of key {tenant.name!r} take {stored} bytes and its quota is {quota}: delete some, "
                "give them a ttl, or have the quota raised"
            )

    def _command(self, model_id: str, path: CheckpointPath, directory: str) -> SaveState | SaveSampler:
        match path.kind:
            case "weights":
                return SaveState(model_id=model_id, directory=directory)
            case "sampler_weights":
                return SaveSampler(model_id=model_id, directory=directory)
            case "external_weights":
                return SaveSampler(model_id=model_id, directory=directory, kind="external", base_name=self.base_name)

    def directory(self, path: CheckpointPath) -> Path:
        """Where a checkpoint lies, or would."""
        return self.root / _folder(path.model_id) / path.kind / path.name


async def sweep_left(root: Path, registry: Registry) -> None:
    """Remove what killed processes left under ``root``: half-written checkpoints, and files of deleted ones."""
    await asyncio.to_thread(_sweep, root, await registry.everything.checkpoints.deleted())


def _sweep(root: Path, deleted: list[Path]) -> None:
    for left in root.glob(f"{INCOMING}*"):
        left.unlink()
    for parent in root.glob("*/*"):
        sweep_unfinished(parent)
    for directory in deleted:
        shutil.rmtree(directory, ignore_errors=True)


def _folder(model_id: str) -> str:
    # Model ids hold ':', which some file systems refuse; the digest keeps two ids from becoming one folder.
    return f"{_UNSAFE.sub('_', model_id)[:100]}-{hashlib.sha256(model_id.encode()).hexdigest()[:8]}"


def _clear(directory: Path) -> None:
    # Without a row in the registry this is what a killed process left behind; nobody was ever told of it.
    if directory.exists():
        shutil.rmtree(directory)
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
