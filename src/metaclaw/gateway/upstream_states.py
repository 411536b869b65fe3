"""``GET /v1/admin/upstreams``: how the models behind the gateway fare, key by key.

Owns the route; refuses to know how a failure becomes a cooldown. Invariant: the owner alone is told, and a key is told
of by the name of its setting.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metaclaw.errors import ForbiddenError
from metaclaw.gateway.access import OWNER
from metaclaw.gateway.reception import Reception
from metaclaw.upstreams.credential import CredentialState


class Models(Protocol):
    """The slice of ``AgentRouters`` that is used."""

    def states(self) -> list[CredentialState]: ...


class Stands(Protocol):
    """The slice of the gateway's dependencies that is used here."""

    @property
    def reception(self) -> Reception: ...
    @property
    def routers(self) -> Models: ...


async def upstream_states(request: Request) -> Response:
    """The route; ``app.state.deps`` has what ``Stands`` names."""
    deps: Stands = request.app.state.deps
    principal = await deps.reception.authenticate(request)
    if principal.id != OWNER:
        raise ForbiddenError("only the owner's token (proxy.api_key) may see how the models behind the gateway fare")
    return JSONResponse({"upstreams": [asdict(state) for state in deps.routers.states()]})
