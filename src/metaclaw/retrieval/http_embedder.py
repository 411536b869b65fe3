"""Vectors from any API with ``/v1/embeddings``.

Owns batches and reading the answers; refuses to know connections (``metaclaw.upstreams``) and what the vectors are for.
Invariant: as many rows come back as texts went out, in their order, or an error that names the endpoint.

Numpy is needed: this module is loaded by ``configured`` alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from metaclaw.errors import UpstreamError
from metaclaw.retrieval.embedder import Kind
from metaclaw.retrieval.vectors import Vectors, unit_rows
from metaclaw.upstreams.http_model import HttpModel

_DIALECT = "openai.embeddings"
_MAX_BATCH = 64
_MAX_BATCH_CHARACTERS = 64_000
# What models are limited to, roughly; many endpoints refuse a longer text rather than cut it.
_MAX_CHARACTERS = 8_000


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    index: int
    embedding: list[float]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    data: list[_Row]


_ANSWER = TypeAdapter(_Answer)


class HttpEmbedder:
    """Asks one endpoint. ``prefixes`` are what its model wants before a text of each kind, as e5 wants ``query: ``."""

    def __init__(self, model: HttpModel, *, prefixes: Mapping[Kind, str], query_timeout_s: float, timeout_s: float):
        self._model = model
        self._prefixes = prefixes
        self._timeouts = {"query": query_timeout_s, "passage": timeout_s}
        self.name = "|".join((model.model_id, *(prefixes.get(kind, "") for kind in ("query", "passage"))))

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> Vectors:
        """One row for each text. Raises ``UpstreamError``."""
        if not texts:
            return np.zeros((0, 0), np.float32)
        before = self._prefixes.get(kind, "")
        rows = [await self._embed_batch(batch, self._timeouts[kind]) for batch in _batches(before, texts)]
        if len({part.shape[1] for part in rows}) > 1:
            raise self._unusable("vectors of different lengths")
        return np.concatenate(rows)

    async def _embed_batch(self, texts: Sequence[str], timeout_s: float) -> Vectors:
        body = {"model": self._model.model_id, "input": list(texts), "encoding_format": "float"}
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._model.send(_DIALECT, json.dumps(body).encode())
                try:
                    raw = await reply.read()
                finally:
                    reply.close()
        except TimeoutError as error:
            raise UpstreamError(
                f"{self._model.name} took longer than {timeout_s:g} s (embeddings.timeout_s)", status=504
            ) from error
        return await asyncio.to_thread(self._parsed, raw, len(texts))

    def _parsed(self, raw: bytes, number: int) -> Vectors:
        try:
            rows = sorted(_ANSWER.validate_json(raw).data, key=lambda row: row.index)
        except ValidationError as error:
            raise self._unusable("something that is no list of embeddings") from error
        if [row.index for row in rows] != list(range(number)):
            raise self._unusable(f"{len(rows)} vectors for {number} texts")
        try:
            return unit_rows([row.embedding for row in rows])
        except ValueError as error:
            raise self._unusable("vectors that cannot be compared") from error

    def _unusable(self, what: str) -> UpstreamError:
        return UpstreamError(f"{self._model.name} answered with {what}; check embeddings.url and .model", status=502)


def _batches(before: str, texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        # An empty text is refused by many.
        whole = before + (text[:_MAX_CHARACTERS] if text.strip() else ".")
        if batch and (len(batch) == _MAX_BATCH or size + len(whole) > _MAX_BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(whole)
        size += len(whole)
    yield batch
