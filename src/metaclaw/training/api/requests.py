"""Reading requests, the same way on every route.

Owns the limit on bodies and the check of the token; refuses to know what a body means. Invariant: nothing of a body
is read before the caller was let in.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from metaclaw.http.auth import TINKER_PREFIX, require_token
from metaclaw.http.body import read_body
from metaclaw.training.api.codec import decompress

T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024 * 1024  # the SDK splits training data at 5 MB, but one long datum is never split
_INLINE_BYTES = 64 * 1024


def authorised(api_key: str) -> Callable[[Request], Awaitable[None]]:
    """A FastAPI dependency that lets in whoever presents ``api_key``, with or without the SDK's prefix."""

    async def check(request: Request) -> None:
        require_token(request.headers, api_key, optional_prefix=TINKER_PREFIX)

    return check


async def body_of(request: Request) -> bytes:
    """The whole body, decompressed."""
    body = await read_body(request, MAX_BODY_BYTES)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if not encoding:
        return body
    return await asyncio.to_thread(decompress, body, encoding, MAX_BODY_BYTES)


async def digest_of(body: bytes) -> bytes:
    """What tells a retry from another request under the same number."""
    return await off_loop(lambda data: hashlib.sha256(data).digest(), body)


async def off_loop(function: Callable[[bytes], T], body: bytes) -> T:
    """``function(body)``, in a thread where the body is large enough to hold up everybody's streams."""
    return function(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(function, body)
