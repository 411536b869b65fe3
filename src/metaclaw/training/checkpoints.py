"""Checkpoints on disk: directories that are complete or do not exist.

Owns the manifest, the hashes and the order of writing; refuses to know torch, so that the API process and the sampler
can verify what the engine wrote. Invariant: a directory under its final name holds every file of its manifest, whole;
it is never changed or overwritten.

A checkpoint is written into a hidden directory beside its place, each file synced, the manifest last, and then
renamed. A process killed on the way leaves only a hidden directory, which ``sweep_unfinished`` removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

from metaclaw.errors import CheckpointError, ConflictError, EngineError

MANIFEST = "manifest.json"
OPTIMIZER_FILE = "optimizer.safetensors"
FORMAT = 1

Kind = Literal["state", "sampler", "external"]

UNFINISHED = ".unfinished-"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What a file must be."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint is.

    ``state`` can be trained on; ``sampler`` is the adapter alone, ``external`` the same for programs elsewhere.
    """

    kind: Kind
    base_digest: str
    rank: int
    alpha: float
    train_mlp: bool
    train_attn: bool
    train_unembed: bool
    target_modules: tuple[str, ...]
    step: int  # optimiser steps taken
    files: dict[str, FileRecord]
    base_config_sha256: str = ""  # of the base's configuration alone: tells other weights from another architecture
    base_revision: str = ""  # the hub's commit, where the base's folder is a snapshot of the hub's cache
    format: int = FORMAT

    @property
    def size_bytes(self) -> int:
        return sum(record.size_bytes for record in self.files.values())


def write_checkpoint(directory: Path, files: Mapping[str, bytes], manifest: Manifest) -> Manifest:
    """Write ``files`` and a manifest that names them to the new ``directory``; returns that manifest.

    Raises ``ConflictError`` if the directory exists and ``EngineError`` if the disk refuses; then nothing is left.
    """
    if os.path.lexists(directory):
        raise ConflictError(f"the checkpoint {directory} exists; checkpoints are never overwritten, take another name")
    records = {
        name: FileRecord(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body)) for name, body in files.items()
    }
    complete = replace(manifest, files=records)
    unfinished = directory.with_name(f"{UNFINISHED}{directory.name}")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for name, body in files.items():
            _write_synced(unfinished / name, body)
        _write_synced(unfinished / MANIFEST, _encode(complete))
        _sync_directory(unfinished)
        unfinished.rename(directory)
        _sync_directory(directory.parent)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EngineError(f"cannot write the checkpoint {directory}: {error}") from error
    return complete


def read_manifest(directory: Path) -> Manifest:
    """The manifest in ``directory``; raises ``CheckpointError`` if it is missing, damaged or of another format."""
    path = directory / MANIFEST
    try:
        document = json.loads(path.read_bytes())
        claimed = document.pop("digest")
        if document.get("format") != FORMAT:
            raise CheckpointError(f"{path} has the format {document.get('format')!r}; this release reads {FORMAT}")
        if claimed != _digest(document):
            raise CheckpointError(f"{path} is damaged: its own digest does not match")
        return _decode(document)
    except FileNotFoundError as error:
        raise CheckpointError(f"{directory} is not a complete checkpoint: it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def verify(directory: Path, *, base_digest: str | None = None) -> Manifest:
    """Check every file of a checkpoint against its manifest, and the base it belongs to; returns the manifest."""
    manifest = _checked_manifest(directory, base_digest, "")
    for name, record in manifest.files.items():
        digest, size_bytes = hashlib.sha256(), 0
        with _opened(directory / name) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
        _check_file(directory / name, record, digest.hexdigest(), size_bytes)
    return manifest


def read_checkpoint(
    directory: Path, *, base_digest: str, base_config_sha256: str = ""
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the verified content of every file: what was hashed is what is returned.

    ``base_config_sha256`` makes the refusal of another base say in what it differs.
    """
    manifest = _checked_manifest(directory, base_digest, base_config_sha256)
    files: dict[str, bytes] = {}
    for name, record in manifest.files.items():
        with _opened(directory / name) as stream:
            files[name] = stream.read()
        _check_file(directory / name, record, hashlib.sha256(files[name]).hexdigest(), len(files[name]))
    return manifest, files


def sweep_unfinished(parent: Path) -> list[Path]:
    """Remove what killed writers left in ``parent``; returns what was removed. Only while no engine writes there."""
    left = sorted(path for path in parent.glob(f"{UNFINISHED}*") if path.is_dir() and not path.is_symlink())
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return left


def _checked_manifest(directory: Path, base_digest: str | None, base_config_sha256: str) -> Manifest:
    """The manifest, if it is of this base and names all that is there. Other programs would load a stray file."""
    manifest = read_manifest(directory)
    if base_digest is not None and manifest.base_digest != base_digest:
        revision = f" of revision {manifest.base_revision}" * bool(manifest.base_revision)
        same_shape = manifest.base_config_sha256 == base_config_sha256 != ""
        raise CheckpointError(
            f"{directory} was trained on another base model{revision}"
            f"{', of the same configuration with other weights' * same_shape} "
            f"(digest {manifest.base_digest[:12]}…, this server has {base_digest[:12]}…)"
        )
    for path in sorted(directory.iterdir()):
        if path.name != MANIFEST and path.name not in manifest.files:
            raise CheckpointError(f"{path} is not named in {MANIFEST}: it was added later; take it away")
    return manifest


def _check_file(path: Path, record: FileRecord, sha256: str, size_bytes: int) -> None:
    if size_bytes != record.size_bytes:
        raise CheckpointError(f"{path} is damaged: it has {size_bytes} bytes, not {record.size_bytes}")
    if sha256 != record.sha256:
        raise CheckpointError(f"{path} is damaged: its sha256 does not match the manifest")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _encode(manifest: Manifest) -> bytes:
    document = json.loads(json.dumps(asdict(manifest)))  # as it will be read back: tuples are lists
    return json.dumps(document | {"digest": _digest(document)}, indent=2, sort_keys=True).encode()


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _decode(document: dict[str, Any]) -> Manifest:
    files = {name: FileRecord(**record) for name, record in cast("dict[str, Any]", document.pop("files")).items()}
    if any(Path(name).name != name or name in (".", "..") for name in files):
        raise ValueError("a file's name leads out of the directory")
    if document["kind"] not in get_args(Kind):
        raise ValueError(f"unknown kind {document['kind']!r}")
    document |= {"files": files, "target_modules": tuple(document["target_modules"])}
    return Manifest(**document)


def _write_synced(path: Path, body: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return  # other systems cannot open a directory
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
