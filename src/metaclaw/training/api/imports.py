"""Checkpoints that come from elsewhere, as the archive that a training server gives out.

Owns what such an archive may hold and the way of it to a checkpoint that can be trained on; refuses to know HTTP.
Invariants: it is checked whole before anybody can load it: names, sizes, digests, base model, and by the engine itself
every tensor's shape; nothing of it is ever executed or unpickled; and what is refused leaves nothing.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import shutil
import tarfile
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaclaw.errors import CheckpointError, EngineError, InvalidRequestError, RequestTooLargeError
from metaclaw.training.api.checkpoints import CheckpointStore
from metaclaw.training.api.records import Checkpoint, CheckpointPath, LoraShape, Session, TrainingRun
from metaclaw.training.api.tenants import Tenant
from metaclaw.training.checkpoints import MANIFEST, OPTIMIZER_FILE, UNFINISHED, Manifest, verify
from metaclaw.training.commands import CreateModel, LoadModel, UnloadModel

WEIGHTS = {"adapter_config.json", "adapter_model.safetensors", OPTIMIZER_FILE}
_ALPHA = CreateModel(model_id="any", rank=1).alpha
_MAX_TEXT_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20


class _Claims(BaseModel):
    """What a manifest may say. Of our own files the types are known; of others' they are not."""

    model_config = ConfigDict(strict=True)

    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    train_mlp: bool
    train_attn: bool
    train_unembed: bool
    step: Annotated[int, Field(ge=0, lt=2**53)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """Takes archives in. ``max_bytes`` is how large one may be, packed and unpacked."""

    checkpoints: CheckpointStore
    max_bytes: int

    async def take_in(self, tenant: Tenant, archive: Path, name: str, *, expires_at: float | None) -> Checkpoint:
        """Make the archive a training checkpoint of ``tenant``, of a training run that is not alive.

        Raises ``InvalidRequestError`` for what is no whole checkpoint of this base model, ``QuotaError``.
        """
        session_id = f"import-{uuid.uuid4()}"
        path = CheckpointPath(model_id=f"{session_id}:train:0", kind="weights", name=name)
        base = await self.checkpoints.engine.ready()
        directory = self.checkpoints.directory(path)
        unfinished = directory.with_name(f"{UNFINISHED}{directory.name}")  # what a kill leaves is swept at the start
        try:
            manifest = await asyncio.to_thread(self._unpacked, archive, unfinished, base.base_digest)
            await self.checkpoints.check_room(tenant, tenant.key_id, manifest.size_bytes)
            await self._tried(path.model_id, unfinished, tenant)
            await asyncio.to_thread(unfinished.rename, directory)
            return await self._recorded(tenant, path, manifest, session_id, expires_at)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, directory.parent.parent, True)  # the run's own, and new
            raise

    def _unpacked(self, archive: Path, unfinished: Path, base_digest: str) -> Manifest:
        unfinished.mkdir(parents=True, mode=0o700)
        try:
            with gzip.open(archive) as stream, tarfile.open(fileobj=_Bounded(stream), mode="r:") as packed:
                self._unpack(packed, unfinished)
            manifest = verify(unfinished)
            _check(manifest, base_digest)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InvalidRequestError(f"the body is no archive of a checkpoint: {error}") from error
        except CheckpointError as error:
            raise InvalidRequestError(_without(str(error), unfinished)) from error
        return manifest

    def _unpack(self, packed: tarfile.TarFile, folder: Path) -> None:
        left = self.max_bytes
        for member in packed:
            most = left if member.name.endswith(".safetensors") else min(left, _MAX_TEXT_BYTES)
            if member.name not in {MANIFEST, *WEIGHTS} or not member.isreg():
                raise InvalidRequestError(f"{member.name[:100]!r} does not belong into the archive of a checkpoint")
            if member.size > most:
                raise RequestTooLargeError(f"{member.name} has {member.size} bytes; at most {most} are taken")
            left -= member.size
            file = packed.extractfile(member)
            with (folder / member.name).open("xb") as out:
                while file is not None and (chunk := file.read(_CHUNK_BYTES)):
                    out.write(chunk)

    async def _tried(self, model_id: str, directory: Path, tenant: Tenant) -> None:
        """Have the engine load it once: it knows the shapes that every tensor must have."""
        engine = self.checkpoints.engine
        try:
            command = LoadModel(model_id=model_id, directory=str(directory), with_optimizer=True)
            await engine.call(command, share=tenant.key_id)
        except (InvalidRequestError, CheckpointError) as error:
            raise InvalidRequestError(_without(str(error), directory)) from error
        except EngineError as error:
            raise EngineError(_without(str(error), directory)) from error
        await engine.call(UnloadModel(model_id=model_id), share=tenant.key_id)

    async def _recorded(
        self, tenant: Tenant, path: CheckpointPath, manifest: Manifest, session_id: str, expires_at: float | None
    ) -> Checkpoint:
        now, rows = self.checkpoints.clock(), self.checkpoints.registry.for_(tenant)
        lora = LoraShape(
            rank=manifest.rank, train_mlp=manifest.train_mlp, train_attn=manifest.train_attn,
            train_unembed=manifest.train_unembed,
        )  # fmt: skip
        session = Session(
            session_id=session_id, created_at=now, seen_at=now, finished_at=now, display_name="import", metadata={},
            owner=tenant.key_id,
        )  # fmt: skip
        run = TrainingRun(
            model_id=path.model_id, session_id=session_id, lora=lora, metadata={}, created_at=now, last_request_at=now
        )
        checkpoint = Checkpoint(
            path=path, directory=self.checkpoints.directory(path), lora=lora, base_digest=manifest.base_digest,
            size_bytes=manifest.size_bytes, created_at=now, expires_at=expires_at, is_ephemeral=False, is_public=False,
            metadata={"imported": "true"},
        )  # fmt: skip
        await rows.sessions.add(session)
        await rows.sessions.finish(session_id, now)
        await rows.runs.add(run)
        await rows.checkpoints.add(checkpoint)
        return checkpoint


class _Bounded(io.RawIOBase):
    """A stream that is read in small pieces only: `tarfile` takes a member's extended header into memory as a whole."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _CHUNK_BYTES:
            raise OSError("it has a header that is too large")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _check(manifest: Manifest, base_digest: str) -> None:
    try:
        claims = {name: getattr(manifest, name) for name in _Claims.model_fields}
        _Claims.model_validate(claims | {"alpha": float(manifest.alpha)})
    except (ValidationError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"{MANIFEST} of the archive is not one of ours") from error
    if manifest.kind != "state" or set(manifest.files) != WEIGHTS:
        raise InvalidRequestError("only a saved state can be taken in: its weights and its optimiser's")
    if manifest.base_digest != base_digest:
        raise InvalidRequestError(
            f"the checkpoint was trained on another base model (digest {str(manifest.base_digest)[:12]}…, "
            f"this server has {base_digest[:12]}…)"
        )
    if float(manifest.alpha) != _ALPHA:
        raise InvalidRequestError(f"its alpha is {manifest.alpha}; this server trains with {_ALPHA:g}")


def _without(message: str, folder: Path) -> str:
    """``message`` without the place on this machine, which is nobody else's business."""
    return message.replace(str(folder), "the archive")
