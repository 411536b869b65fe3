"""Checkpoints as files for programs elsewhere: which there are, and all of them as one archive.

Owns the choice of files and the archive's bytes; refuses to know HTTP and who may have them. Invariant: only files that
the checkpoint's manifest names are given out, so no name leads anywhere else.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from metaclaw.errors import CheckpointError
from metaclaw.training.checkpoints import MANIFEST, read_manifest

_CHUNK_BYTES = 1 << 20
_GZIP = 31  # zlib's name for a gzip stream with the largest window


def file_names(directory: Path) -> list[str]:
    """The files of a complete checkpoint. Raises ``CheckpointError``."""
    return sorted([MANIFEST, *read_manifest(directory).files])


def archive(directory: Path, names: list[str]) -> Iterator[bytes]:
    """``names`` of ``directory`` as a gzipped tar, piece by piece, so that its size is never in memory."""
    # Weights do not compress; the least effort keeps the server's cores for others.
    packer = zlib.compressobj(level=1, wbits=_GZIP)
    for name in names:
        for piece in _member(directory / name, name):
            if packed := packer.compress(piece):
                yield packed
    yield packer.compress(bytes(2 * tarfile.BLOCKSIZE)) + packer.flush()


def _member(path: Path, name: str) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            info = tarfile.TarInfo(name)
            info.size, info.mode = path.stat().st_size, 0o644
            yield info.tobuf()
            left = info.size
            while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise CheckpointError(f"{path.name} of the checkpoint cannot be read: {error.strerror}") from error
    if left:
        raise CheckpointError(f"{path.name} of the checkpoint is shorter than it was")
    yield bytes(-info.size % tarfile.BLOCKSIZE)
