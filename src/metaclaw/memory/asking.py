"""A question's meaning, for whoever searches the memory.

Owns asking the embedder in time; refuses to know what is found. Invariant: numpy is loaded only where an embedder is
configured, and without an answer from it a question is asked by its words alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from metaclaw.extras import load_backend
from metaclaw.memory.query import ByMeaning
from metaclaw.retrieval.breaker import Breaker

if TYPE_CHECKING:
    from metaclaw.retrieval.embedder import Vectors

_EXTRA = "evolve"


class _Meanings(Protocol):
    def asked(self, vector: Vectors) -> ByMeaning: ...


class Asking:
    """Turns questions into what ``MemoryStore.search`` takes; for one store, and one thread that searches it.

    What is less like a question than ``min_likeness`` does not fit it by its meaning. Raises ``MissingExtraError``.
    """

    def __init__(self, embedder: Breaker, *, min_likeness: float) -> None:
        self._embedder = embedder
        module = load_backend("metaclaw.memory.meanings", extra=_EXTRA)
        self._meanings = cast(_Meanings, module.Meanings(embedder.name, min_likeness=min_likeness))

    async def meaning(self, text: str) -> ByMeaning | None:
        """The meaning of ``text``; ``None`` when it has none or the embedder does not answer."""
        vectors = await self._embedder.embed([text], kind="query") if text.strip() else None
        return None if vectors is None else self._meanings.asked(vectors)
