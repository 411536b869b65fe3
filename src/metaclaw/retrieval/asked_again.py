"""A query that is asked twice is embedded once.

Owns the vectors of the latest queries; refuses to know who asks. Invariant: what is remembered is what the embedder
answered, so skills and memories of one turn are compared with one and the same vector.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from metaclaw.retrieval.embedder import Embedder, Kind

if TYPE_CHECKING:
    from metaclaw.retrieval.embedder import Vectors

_NUM_KEPT = 64


class AskedAgain:
    """An embedder that remembers its latest single queries."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._kept: OrderedDict[str, Vectors] = OrderedDict()

    @property
    def name(self) -> str:
        return self._embedder.name

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> Vectors:
        """One row for each text. Raises ``UpstreamError``."""
        if kind != "query" or len(texts) != 1:
            return await self._embedder.embed(texts, kind=kind)
        known = self._kept.pop(texts[0], None)
        self._kept[texts[0]] = vectors = await self._embedder.embed(texts, kind=kind) if known is None else known
        if len(self._kept) > _NUM_KEPT:
            self._kept.popitem(last=False)
        return vectors
