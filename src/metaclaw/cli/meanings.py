"""What the commands on memory do with vectors, where embeddings are configured; else nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from metaclaw.memory.doctor import Complaint
    from metaclaw.memory.query import ByMeaning
    from metaclaw.memory.store import MemoryStore
    from metaclaw.retrieval.breaker import Breaker

T = TypeVar("T")


def meaning_of(text: str) -> ByMeaning | None:
    """What ``text`` means; ``None`` also when the embedder does not answer."""
    from metaclaw.config_file import load_settings
    from metaclaw.memory.asking import Asking

    min_likeness = load_settings().embeddings.min_likeness
    return _with_embedder(lambda embedder: Asking(embedder, min_likeness=min_likeness).meaning(text))


def without_vector(store: MemoryStore) -> list[Complaint]:
    """That memories have no vector yet, if any have none."""
    from metaclaw.memory.doctor import Complaint
    from metaclaw.memory.embedding import UnitEmbedding

    async def counted(embedder: Breaker) -> int:
        return UnitEmbedding(store, embedder).num_missing()

    number = _with_embedder(counted) or 0
    what = "memories that are found by words alone until the learner embeds them"
    return [Complaint(what=what, number=number, is_mendable=True)] if number else []


def embed_missing(store: MemoryStore) -> None:
    """Give memories their vectors, as far as the embedder answers."""
    from metaclaw.memory.embedding import UnitEmbedding

    async def embedded(embedder: Breaker) -> None:
        embedding = UnitEmbedding(store, embedder)
        while await embedding.step():
            pass

    _with_embedder(embedded)


def _with_embedder(work: Callable[[Breaker], Awaitable[T]]) -> T | None:
    from metaclaw.config_file import load_settings

    settings = load_settings().embeddings
    if not settings.is_configured:
        return None
    from metaclaw.retrieval.configured import open_embedder
    from metaclaw.upstreams.session import new_session

    async def worked() -> T | None:
        async with new_session() as session:
            embedder = open_embedder(settings, session)
            return None if embedder is None else await work(embedder)

    return asyncio.run(worked())
