"""A small Hugging Face hub with one model, so that ``HF_ENDPOINT=http://this-server`` gives clients its tokenizer.

Owns the few addresses of the hub that ``from_pretrained`` asks for; refuses to know which files there are. Invariant:
as on every door of this server a key is needed (``HF_TOKEN``), and an unknown name is answered as the hub answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.responses import FileResponse, JSONResponse, Response

from metaclaw.errors import InvalidRequestError
from metaclaw.training.api.hub_files import HubFiles
from metaclaw.training.api.sampling import BaseModel

_MODEL = "/api/models/{repo:path}"
_FILE = "/{repo:path}/resolve/{revision}/{file:path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRoutes:
    """Handlers at the root of the server."""

    base: BaseModel
    hub: HubFiles

    def router(self) -> APIRouter:
        router = APIRouter()
        # The longer addresses first: the shortest matches them all.
        router.add_api_route(
            f"{_MODEL}/tree/{{revision}}/{{folder:path}}", self.folder, methods=["GET"], response_model=None
        )
        router.add_api_route(f"{_MODEL}/tree/{{revision}}", self.tree, methods=["GET"], response_model=None)
        router.add_api_route(f"{_MODEL}/revision/{{revision}}", self.model, methods=["GET"], response_model=None)
        router.add_api_route(_MODEL, self.model, methods=["GET"], response_model=None)
        router.add_api_route(_FILE, self.file, methods=["GET", "HEAD"], response_model=None)
        return router

    async def model(self, repo: str, revision: str = "main") -> Response:
        if missing := self._missing(repo, revision):
            return missing
        about: dict[str, Any] = {
            "id": repo, "modelId": repo, "sha": self.hub.commit, "private": False, "disabled": False, "gated": False,
            "downloads": 0, "likes": 0, "tags": [], "siblings": [{"rfilename": name} for name in self.hub.files],
        }  # fmt: skip
        return JSONResponse(about)

    async def tree(self, repo: str, revision: str) -> Response:
        if missing := self._missing(repo, revision):
            return missing
        files = self.hub.files.items()
        return JSONResponse(
            [{"type": "file", "path": name, "size": each.size_bytes, "oid": each.sha256[:40]} for name, each in files]
        )

    async def folder(self, repo: str, revision: str, folder: str) -> Response:
        return self._missing(repo, revision) or _not_found("EntryNotFound", f"there is no folder {folder[:100]!r} here")

    async def file(self, repo: str, revision: str, file: str) -> Response:
        if missing := self._missing(repo, revision):
            return missing
        found = self.hub.files.get(file)
        commit = {"X-Repo-Commit": self.hub.commit}
        if found is None:
            return _not_found("EntryNotFound", f"{file[:100]!r} is not given out by this server", commit)
        headers = {**commit, "ETag": f'"{found.sha256}"'}
        return FileResponse(found.path, media_type="application/octet-stream", headers=headers)

    def _missing(self, repo: str, revision: str) -> Response | None:
        try:
            self.base.check(repo)
        except InvalidRequestError as error:
            return _not_found("RepoNotFound", str(error))
        if revision not in ("main", self.hub.commit):
            return _not_found("RevisionNotFound", f"there is no revision {revision[:100]!r} here; use main")
        return None


def _not_found(code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    told = {"X-Error-Code": code, "X-Error-Message": message.encode("ascii", "replace").decode()}
    return JSONResponse({"error": message}, status_code=404, headers={**told, **(headers or {})})
