"""Checkpoints that are brought to this server. Beyond Tinker's protocol.

Owns the address and how long a body may be; refuses to know what is in an archive (``imports``). Invariant: what is
being sent lies in one file that is gone when the request is answered, and is never larger than what is taken.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fastapi import APIRouter
from starlette.requests import Request

from metaclaw.errors import InvalidRequestError, RequestTooLargeError
from metaclaw.training.api import wire
from metaclaw.training.api.checkpoints import INCOMING
from metaclaw.training.api.imports import Imports
from metaclaw.training.api.records import checkpoint_name
from metaclaw.training.api.requests import tenant_of

_WRITE_BYTES = 4 << 20
_MIN_TTL_S, _MAX_TTL_S = 60, 10 * 366 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRoutes:
    """Handlers under ``/api/v1``."""

    imports: Imports
    clock: Callable[[], float]

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/checkpoints/import", self.take_in, methods=["POST"])
        return router

    async def take_in(self, request: Request, name: str, ttl_seconds: int | None = None) -> wire.CheckpointImported:
        """The body is what ``.../archive`` of a training checkpoint gives out, here or at another server."""
        tenant, name = tenant_of(request), checkpoint_name(name)
        if ttl_seconds is not None and not _MIN_TTL_S <= ttl_seconds <= _MAX_TTL_S:
            raise InvalidRequestError(f"ttl_seconds must be from {_MIN_TTL_S} to {_MAX_TTL_S}", param="ttl_seconds")
        expires_at = None if ttl_seconds is None else self.clock() + ttl_seconds
        root = self.imports.checkpoints.root
        await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=root, prefix=INCOMING) as file:
            await _received(request, file, self.imports.max_bytes)
            checkpoint = await self.imports.take_in(tenant, Path(file.name), name, expires_at=expires_at)
        return wire.CheckpointImported(tinker_path=str(checkpoint.path), size_bytes=checkpoint.size_bytes)


async def _received(request: Request, file: IO[bytes], max_bytes: int) -> None:
    announced = request.headers.get("content-length", "")
    num_bytes, waiting = int(announced) if announced.isdecimal() else 0, bytearray()
    if num_bytes <= max_bytes:
        num_bytes = 0
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                break
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
    if num_bytes > max_bytes:
        raise RequestTooLargeError(f"the archive is larger than the limit of {max_bytes} bytes")
    await asyncio.to_thread(file.write, bytes(waiting))
    await asyncio.to_thread(file.flush)
