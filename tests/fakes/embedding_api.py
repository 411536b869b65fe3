"""An endpoint with ``/v1/embeddings``: what a text means is which of a few subjects it names.

It keeps what it was asked for, and can be told how to answer next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Json = dict[str, Any]
# Words of one subject, in several languages; a text that names none is near to nothing.
SUBJECTS = (
    ("git", "commit", "repository", "versionen"),
    ("mail", "email", "inbox", "brief"),
    ("invoice", "payment", "rechnung", "账单"),
    ("container", "docker", "コンテナ"),
    ("translate", "language", "übersetze"),
    ("chart", "plot", "diagramm"),
    ("meeting", "calendar", "termin"),
    ("password", "secret", "geheim"),
    ("recipe", "cook", "kochen"),
)


def meaning_of(text: str) -> list[float]:
    """One axis for each subject, and one that all texts share."""
    named = [float(any(word in text.lower() for word in subject)) for subject in SUBJECTS]
    return [*(3 * one for one in named), 1.0]


@dataclass(slots=True)
class EmbeddingApi:
    """The endpoint; ``url`` ends in /v1."""

    url: str = ""
    asked: list[Json] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    answers: deque[Callable[[Json], web.Response]] = field(default_factory=deque)

    async def answer(self, request: web.Request) -> web.Response:
        body: Json = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        if self.answers:
            return self.answers.popleft()(body)
        rows = [{"object": "embedding", "index": n, "embedding": meaning_of(t)} for n, t in enumerate(body["input"])]
        return web.json_response({"object": "list", "data": rows[::-1], "model": body["model"]})


@asynccontextmanager
async def embedding_api() -> AsyncGenerator[EmbeddingApi]:
    """A running endpoint."""
    api = EmbeddingApi()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/embeddings", api.answer)
    async with TestServer(app) as server:
        api.url = str(server.make_url("/v1"))
        yield api
