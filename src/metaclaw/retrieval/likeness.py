"""How much nearer a text is to a query than texts are anyway.

Owns a scale on which models can be compared; refuses to know the models. Invariant: what is not nearer than the
others has nothing to say, however high its cosine is: in some models any two texts are at 0.8.

From all vectors the mean of the texts is taken away before they are compared: what all of them share says nothing.
"""

from __future__ import annotations

import numpy as np

from metaclaw.retrieval.vectors import Vectors, nearest, unit_rows

_FEWEST = 8  # texts that have a mean worth taking away


class Likeness:
    """Texts by key, ready to be compared with queries."""

    def __init__(self, keys: list[str], rows: Vectors) -> None:
        self._keys = keys
        self._mean = rows.mean(axis=0) if len(keys) >= _FEWEST else np.zeros(rows.shape[1], np.float32)
        self._rows = unit_rows(rows - self._mean)

    def nearest(self, query: Vectors, limit: int) -> list[tuple[str, float]]:
        """At most ``limit`` texts with their likeness to ``query`` (one row), at most 1, likest first."""
        return nearest(unit_rows(query.reshape(1, -1) - self._mean), self._rows, self._keys, limit)
