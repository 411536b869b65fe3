"""Tinker: downloads of checkpoints.

Owns the addresses under which files are had without a key, for a while; refuses to know what is in the files.
Invariant: an address is good for one file of one checkpoint until its time is over, and only for whoever was given it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from metaclaw.errors import ForbiddenError, InvalidRequestError, NotFoundError
from metaclaw.training.api import wire
from metaclaw.training.api.checkpoints import CheckpointStore
from metaclaw.training.api.downloads import archive, file_names
from metaclaw.training.api.records import Checkpoint, parse_path
from metaclaw.training.api.requests import tenant_of
from metaclaw.training.api.signing import Signer
from metaclaw.training.api.tenants import ADMIN, Tenant

LIFETIME_S = 3600
ARCHIVE = "archive.tar.gz"  # no checkpoint has a file of this name
_CHECKPOINT = "/training_runs/{model_id}/checkpoints/{kind}/{name}"
_DOWNLOAD = "/downloads/{model_id}/{kind}/{name}/{file}"
_PURPOSE = "download"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRoutes:
    """``router`` is for those with a key, ``open_router`` for those with an address from it."""

    checkpoints: CheckpointStore
    signer: Signer
    clock: Callable[[], float]

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route(f"{_CHECKPOINT}/external_weights_urls", self.urls, methods=["GET"])
        router.add_api_route(f"{_CHECKPOINT}/archive", self.archive, methods=["GET"], response_model=None)
        return router

    def open_router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route(_DOWNLOAD, self.download, methods=["GET", "HEAD"], response_model=None)
        return router

    async def urls(self, model_id: str, kind: str, name: str, request: Request) -> wire.DownloadUrls:
        """One address a file."""
        if kind != "external_weights":
            raise InvalidRequestError(f"{kind!r} has no files for other programs; save with save_weights_external")
        checkpoint = await self._checkpoint(tenant_of(request), model_id, kind, name)
        expires_at = self._expiry()
        names = await asyncio.to_thread(file_names, checkpoint.directory)
        urls = {file: self._url(request, checkpoint, file, expires_at) for file in names}
        return wire.DownloadUrls(urls=urls, expires=datetime.fromtimestamp(expires_at, UTC))

    async def archive(self, model_id: str, kind: str, name: str, request: Request) -> Response:
        """What SDKs before 0.38 ask for: a redirect to all files in one."""
        checkpoint = await self._checkpoint(tenant_of(request), model_id, kind, name)
        expires_at = self._expiry()
        expires = format_datetime(datetime.fromtimestamp(expires_at, UTC), usegmt=True)
        url = self._url(request, checkpoint, ARCHIVE, expires_at)
        return RedirectResponse(url, 302, headers={"Expires": expires})

    async def download(
        self, model_id: str, kind: str, name: str, file: str, expires: int = 0, signature: str = ""
    ) -> Response:
        if not self.signer.holds(signature, _PURPOSE, expires, model_id, kind, name, file, now=self.clock()):
            raise ForbiddenError("this address is not one of this server's, or its time is over; ask for a new one")
        # Whoever was given the address could read it then; the signature stands for them.
        checkpoint = await self._checkpoint(ADMIN, model_id, kind, name)
        names = await asyncio.to_thread(file_names, checkpoint.directory)
        if file == ARCHIVE:
            return StreamingResponse(archive(checkpoint.directory, names), media_type="application/gzip")
        if file not in names:
            raise NotFoundError(f"{checkpoint.path} has no file {file[:100]!r}")
        return FileResponse(checkpoint.directory / file, media_type="application/octet-stream", filename=file)

    async def _checkpoint(self, tenant: Tenant, model_id: str, kind: str, name: str) -> Checkpoint:
        return await self.checkpoints.get(tenant, parse_path(f"tinker://{model_id}/{kind}/{name}"))

    def _expiry(self) -> int:
        return int(self.clock()) + LIFETIME_S

    def _url(self, request: Request, checkpoint: Checkpoint, file: str, expires_at: int) -> str:
        parts = (checkpoint.path.model_id, checkpoint.path.kind, checkpoint.path.name, file)
        signature = self.signer.sign(_PURPOSE, expires_at, *parts)
        path = "/".join(quote(part, safe="") for part in parts)
        query = urlencode({"expires": expires_at, "signature": signature})
        # As the client names us, so that it works through a proxy and a tunnel too.
        return f"{request.url.scheme}://{request.url.netloc}/downloads/{path}?{query}"
