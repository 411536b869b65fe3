"""An agent as one file: skills, memories, settings, adapter, with a manifest.

Owns the layout of the archive and its checks; refuses to know where things go in a home. Invariants: no secret is in an
archive; what is read is checked as a whole (names, sizes, digests) before anything of it is used, and it names no place
outside itself.

``manifest.json`` lists every other file with its size and SHA-256; ``skills/<name>/...``, ``memories.jsonl``,
``settings.json``, ``policy.json`` and ``adapter/...`` are as in a home.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaclaw import __version__
from metaclaw.errors import ConflictError, InvalidRequestError

MANIFEST = "manifest.json"
MAX_FILE_BYTES = 4 << 30  # an adapter of a large model
MAX_TEXT_BYTES = 256 << 20
MAX_FILES = 5000
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@ -]*(/[A-Za-z0-9_.][A-Za-z0-9._@ -]*)*")
_SECRET = re.compile(r"(^|_)(key|keys|token|password|secret)$")


class Kept(BaseModel):
    """One file of an archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What an archive says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    metaclaw: str = Field(max_length=100)
    agent: str
    made_at: float
    left_out: tuple[str, ...] = ()
    files: dict[str, Kept] = Field(max_length=MAX_FILES)


def without_secrets(group: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what must not travel."""
    return {
        name: without_secrets(value) if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownArgumentType]
        for name, value in group.items()
        if not _SECRET.search(name)
    }


def write_archive(target: Path, agent: str, files: Mapping[str, bytes | Path], left_out: list[str]) -> Manifest:
    """Write ``files`` by their place in the archive. Raises ``ConflictError`` when ``target`` is there."""
    if target.exists():
        raise ConflictError(f"{target} exists already; name a file that does not")
    kept = {name: _kept(content) for name, content in sorted(files.items())}
    manifest = Manifest(
        format=1, metaclaw=__version__, agent=agent, made_at=time.time(), left_out=tuple(left_out), files=kept
    )
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("xb") as handle:
            partial.chmod(0o600)
            with tarfile.open(fileobj=handle, mode="w:gz") as archive:
                _add(archive, MANIFEST, manifest.model_dump_json(indent=1).encode())
                for name, content in sorted(files.items()):
                    _add(archive, name, content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def unpack_archive(source: Path, folder: Path) -> Manifest:
    """Check ``source`` and write its files below ``folder``, which is empty. Raises ``InvalidRequestError``.

    What is written is removed by whoever made ``folder`` when this raises.
    """
    try:
        with tarfile.open(source, mode="r|gz") as archive:
            manifest: Manifest | None = None
            seen: set[str] = set()
            for member in archive:
                if manifest is None:
                    manifest = _manifest(archive, member)
                    continue
                _unpack(archive, member, manifest, folder, seen)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidRequestError(f"{source} is no archive of an agent: {error}") from error
    if manifest is None or seen != set(manifest.files):
        missing = sorted(set(manifest.files) - seen)[:1] if manifest else [MANIFEST]
        raise InvalidRequestError(f"{source} is not whole: {missing[0]!r} is missing")
    return manifest


def _manifest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Manifest:
    if member.name != MANIFEST or not member.isreg() or member.size > MAX_TEXT_BYTES:
        raise InvalidRequestError(f"the archive does not begin with {MANIFEST}")
    file = archive.extractfile(member)
    try:
        manifest = Manifest.model_validate_json(file.read() if file else b"")
    except ValidationError as error:
        raise InvalidRequestError(f"{MANIFEST}: {error.errors()[0]['msg']}") from error
    for name in manifest.files:
        if not _SAFE.fullmatch(name) or any(part.strip(". ") == "" for part in name.split("/")) or name == MANIFEST:
            raise InvalidRequestError(f"{name[:120]!r} is no place in an archive")
    return manifest


def _unpack(
    archive: tarfile.TarFile, member: tarfile.TarInfo, manifest: Manifest, folder: Path, seen: set[str]
) -> None:
    kept = manifest.files.get(member.name)
    if kept is None or not member.isreg() or member.name in seen or member.size != kept.size:
        raise InvalidRequestError(f"{member.name[:120]!r} is not as {MANIFEST} says; nothing was imported")
    seen.add(member.name)
    file = archive.extractfile(member)
    target = folder / member.name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), member.size
    with target.open("xb") as out:
        while file is not None and (chunk := file.read(1 << 20)):
            digest.update(chunk)
            left -= len(chunk)
            out.write(chunk)
    if left or digest.hexdigest() != kept.sha256:
        raise InvalidRequestError(f"{member.name[:120]!r} was changed since the export; nothing was imported")


def _kept(content: bytes | Path) -> Kept:
    if isinstance(content, bytes):
        return Kept(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    with content.open("rb") as file:
        return Kept(size=content.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = 0o600, int(time.time())
    if isinstance(content, bytes):
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        return
    member.size = content.stat().st_size
    with content.open("rb") as file:
        archive.addfile(member, file)


def load_json(path: Path) -> Any:
    """A file of JSON that may be missing: ``None`` then. Raises ``InvalidRequestError``."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequestError(f"{path.name} cannot be read: {error}") from error
