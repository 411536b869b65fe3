"""The embedder that the settings name.

Owns choosing and loading it; refuses to know what it is used for. Invariant: numpy and the rest of the extra are
imported only when an embedder is configured, and a missing one is a sentence that names the extra.
"""

from __future__ import annotations

from typing import cast

import aiohttp

from metaclaw.config import EmbeddingSettings
from metaclaw.extras import load_backend
from metaclaw.retrieval.asked_again import AskedAgain
from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.embedder import Embedder
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.upstream import Timeouts, Upstream

_EXTRA = "evolve"
_PASSAGES_SHARE = 15  # a batch of texts may take so many times as long as a query


def open_embedder(settings: EmbeddingSettings, session: aiohttp.ClientSession) -> Breaker | None:
    """The configured embedder; ``None`` where there is none. Blocking, for a folder is read.

    Raises ``ConfigError`` and ``MissingExtraError``.
    """
    if settings.path is not None:
        module = load_backend("metaclaw.retrieval.static_embedder", extra=_EXTRA)
        return Breaker(AskedAgain(cast(Embedder, module.StaticEmbedder.open(settings.path.expanduser()))))
    if not settings.url:
        return None
    module = load_backend("metaclaw.retrieval.http_embedder", extra=_EXTRA)
    model = HttpModel(session, _upstream(settings))
    embedder = module.HttpEmbedder(
        model,
        prefixes={"query": settings.query_prefix, "passage": settings.passage_prefix},
        query_timeout_s=settings.timeout_s,
        timeout_s=_PASSAGES_SHARE * settings.timeout_s,
    )
    return Breaker(AskedAgain(cast(Embedder, embedder)))


def _upstream(settings: EmbeddingSettings) -> Upstream:
    limit_s = _PASSAGES_SHARE * settings.timeout_s
    return Upstream(
        name=f"the embeddings at {settings.url}",
        base_url=settings.url,
        api_key=settings.api_key,
        key_setting="embeddings.api_key",
        timeouts=Timeouts(connect_s=settings.timeout_s, first_byte_s=limit_s, gap_s=limit_s),
        dialects=("openai.embeddings",),
        model_id=settings.model,
    )
