"""``POST /v1/token_counts``: how many tokens texts take in the base model's tokenizer.

Owns the request's shape and its limits; refuses to know what the texts are for. Invariant: a text counts as it would
inside a message: what looks like a special token is text, and nothing is added at either end.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from metaclaw.rendering.renderer import Renderer
from metaclaw.training.api.requests import body_of, off_loop
from metaclaw.training.api.wire import parse

_MAX_TEXTS = 1000


class TokenCountRequest(BaseModel):
    """The body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: Annotated[list[str], Field(max_length=_MAX_TEXTS)]


class TokenCountRoutes:
    """Counts with ``renderer``."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/token_counts", self.count, methods=["POST"], response_model=None)
        return router

    async def count(self, request: Request) -> JSONResponse:
        asked = await off_loop(lambda body: parse(TokenCountRequest, body), await body_of(request))
        counts = await asyncio.to_thread(lambda: [self._renderer.num_tokens(text) for text in asked.texts])
        return JSONResponse({"object": "token_counts", "counts": counts})
