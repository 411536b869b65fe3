"""Rows of unit length.

Owns making vectors comparable and comparing them; refuses to know texts and models. Invariant: what goes out is
float32, of unit length and finite; a row that has no direction is all zeros and near to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vectors = NDArray[np.float32]


def unit_rows(rows: ArrayLike) -> Vectors:
    """``rows`` scaled to unit length. Raises ``ValueError`` when they are no matrix of finite numbers."""
    matrix = np.ascontiguousarray(rows, dtype=np.float32)
    if matrix.ndim != 2 or (len(matrix) and not matrix.shape[1]) or not np.isfinite(matrix).all():
        raise ValueError("vectors must be rows of equal length, of finite numbers")
    lengths: Vectors = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def nearest(query: Vectors, rows: Vectors, keys: Sequence[str], limit: int) -> list[tuple[str, float]]:
    """At most ``limit`` of ``rows`` with their likeness to ``query`` (one row), likest first, equal ones by key."""
    if not len(keys):
        return []
    likeness = rows @ query.reshape(-1)
    some = np.argpartition(-likeness, min(limit, len(keys)) - 1)[:limit] if limit < len(keys) else range(len(keys))
    scored = [(keys[index], float(likeness[index])) for index in some]
    return sorted(scored, key=lambda one: (-one[1], one[0]))
