"""Vectors on disk, by what they are of.

Owns one file for each embedder; refuses to know texts. Invariant: the file is replaced as a whole, so a reader has the
old one or the new one; and it can be deleted at any time, for all that is in it can be computed again.

The file is an array of (digest of the text, vector), memory-mapped: only the rows that are asked for are read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metaclaw.retrieval.vectors import Vectors

_DIGEST_BYTES = 32
_MAX_ROWS = 50_000  # the newest stay
_log = logging.getLogger(__name__)


class VectorCache:
    """Vectors of one embedder, called ``name``. Blocking."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npy"

    def load(self, texts: Iterable[str]) -> dict[str, Vectors]:
        """The vectors that are known, by text."""
        rows = self._rows()
        if rows is None:
            return {}
        places = {bytes(digest): number for number, digest in enumerate(rows["digest"])}
        found = ((text, places.get(_digest(text))) for text in texts)
        return {text: np.array(rows["vector"][place]) for text, place in found if place is not None}

    def add(self, vectors: Mapping[str, Vectors]) -> None:
        """Keep ``vectors`` too. A disk that cannot be written is said, and costs only the time to compute again."""
        if not vectors:
            return
        width = len(next(iter(vectors.values())))
        made: Any = np.zeros(len(vectors), dtype=[("digest", f"V{_DIGEST_BYTES}"), ("vector", np.float32, (width,))])
        for number, (text, vector) in enumerate(vectors.items()):
            made[number] = (_digest(text), vector)
        rows = self._rows()
        if rows is not None and rows.dtype == made.dtype:
            new = {bytes(digest) for digest in made["digest"]}
            kept = [number for number, digest in enumerate(rows["digest"]) if bytes(digest) not in new]
            made = np.concatenate([made, rows[kept]])[:_MAX_ROWS]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                np.save(file, made, allow_pickle=False)
            Path(temporary).replace(self._path)
        except OSError as error:
            _log.warning("vectors cannot be kept in %s: %s", self._path.parent, error.strerror)

    def _rows(self) -> Any:
        try:
            rows: Any = np.load(self._path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            _log.warning("the vectors in %s are computed again: %s", self._path, error)
            return None
        return rows if rows.dtype.names == ("digest", "vector") and rows.ndim == 1 else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
