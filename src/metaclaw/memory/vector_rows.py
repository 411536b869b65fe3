"""The rows of a file of vectors, ready to be compared with a question's.

Owns the numbers; refuses to know whose rows they are and what may be found. Invariant: a likeness is exact wherever it
is given. Which of many rows are worth it is told by their signs: rows that are alike in meaning are on the same side of
the mean in most directions.

Rows are mapped and never copied; of many wide ones the signs are kept in memory, a bit each. As in
``retrieval.likeness``, what all rows share is taken away before they are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metaclaw.memory.vector_files import HEADER_BYTES, VectorFile
from metaclaw.retrieval.vectors import Vectors

Rows = npt.NDArray[np.intp]
_Signs = npt.NDArray[np.uint64]  # (width / 64, rows): a row is a column, which is quicker to count

_FEWEST = 8  # rows that have a mean worth taking away
_SAMPLE = 4096  # rows that the mean is of
_GROWTH = 1.25  # of the rows, until the mean is taken anew
_MANY = 4_000_000  # numbers in a file: more are not multiplied for each question (16 MB, about 2 ms)
_WIDE = 256  # numbers in a row: fewer signs tell too little
_WORTH_IT = 2048  # rows that are compared exactly when signs were compared first
_AT_ONCE = 8192  # rows that are read when signs are taken


@dataclass(frozen=True, slots=True)
class MappedRows:
    """``means`` is the mean's product with each row; ``signs`` are of rows without the mean, or of none."""

    num_sampled: int
    vectors: Vectors
    mean: Vectors
    means: Vectors
    signs: _Signs | None

    def worth_comparing(self, vector: Vectors) -> Rows | None:
        """The rows that may be like ``vector``; ``None`` where all are few enough to be compared."""
        if self.signs is None:
            return None
        asked = _signs_of((vector - self.mean).reshape(1, -1))
        differing = np.zeros(self.signs.shape[1], np.uint16)
        for column, word in zip(self.signs, asked[:, 0], strict=True):
            differing += np.bitwise_count(column ^ word)
        within = np.cumsum(np.bincount(differing))
        return np.flatnonzero(differing <= int(np.searchsorted(within, _WORTH_IT)))

    def likeness(self, vector: Vectors, rows: Rows | None = None) -> Vectors:
        """The cosine of each row (each of ``rows``) and ``vector``, the mean taken from both."""
        vectors, means = (self.vectors, self.means) if rows is None else (self.vectors[rows], self.means[rows])
        square, of_mean = self.mean @ self.mean, self.mean @ vector
        length = max(1e-6, float(np.linalg.norm(vector - self.mean)))
        lengths = np.sqrt(np.maximum(1e-6, 1 - 2 * means + square)) * length
        likeness: Vectors = np.divide(vectors @ vector - means - of_mean + square, lengths, dtype=np.float32)
        return likeness


def mapped(file: VectorFile, known: MappedRows | None) -> MappedRows:
    """The rows of ``file``; of what is ``known`` of it only the rows that came since are read."""
    vectors = np.memmap(file.path, np.float32, "r", HEADER_BYTES, (file.num_rows, file.width))
    if known is None or file.num_rows > known.num_sampled * _GROWTH:
        mean = _mean(vectors)
        return MappedRows(file.num_rows, vectors, mean, vectors @ mean, _signs(vectors, mean, None))
    means = np.concatenate([known.means, vectors[len(known.means) :] @ known.mean])
    return MappedRows(known.num_sampled, vectors, known.mean, means, _signs(vectors, known.mean, known.signs))


def _mean(vectors: Vectors) -> Vectors:
    sampled = vectors[:: -(-len(vectors) // _SAMPLE)]
    share = 1 / len(sampled) if len(vectors) >= _FEWEST else 0.0
    mean: Vectors = np.full(len(sampled), share, np.float32) @ sampled
    return mean


def _signs(vectors: Vectors, mean: Vectors, known: _Signs | None) -> _Signs | None:
    if vectors.size < _MANY or vectors.shape[1] < _WIDE:
        return None
    num_known = 0 if known is None else known.shape[1]
    fresh = [_signs_of(vectors[first : first + _AT_ONCE] - mean) for first in range(num_known, len(vectors), _AT_ONCE)]
    return np.concatenate([*([] if known is None else [known]), *fresh], axis=1)


def _signs_of(rows: Vectors) -> _Signs:
    packed = np.packbits(rows > 0, axis=1)
    padding = -packed.shape[1] % 8
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, padding))).view(np.uint64).T)
