"""Tinker: fetching results.

Owns the long poll; refuses to know what was computed. Invariant: a poll is held until there is a result or the time
is up, because the SDK asks again without any delay.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metaclaw.errors import NotFoundError
from metaclaw.training.api import wire
from metaclaw.training.api.futures import Futures
from metaclaw.training.api.jobs import PROTOBUF, failure
from metaclaw.training.api.requests import body_of, tenant_of

POLL_S = 30.0  # the SDK gives up on a connection after 45


@dataclass(frozen=True, slots=True, kw_only=True)
class FutureRoutes:
    """Handlers under ``/api/v1``."""

    futures: Futures
    poll_s: float = POLL_S

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/retrieve_future", self.retrieve_future, methods=["POST"], response_model=None)
        router.add_api_route("/cancel_future", self.cancel_future, methods=["POST"])
        return router

    async def retrieve_future(self, request: Request) -> Response:
        asked = wire.parse(wire.RetrieveFuture, await body_of(request))
        try:
            result = await self.futures.wait(tenant_of(request), asked.request_id, self.poll_s)
        except NotFoundError as error:
            raise HTTPException(410, str(error)) from error  # "promise lost": a sample is then asked for anew
        if result is None:
            return Response(wire.TryAgain(request_id=asked.request_id).model_dump_json(), media_type="application/json")
        if result.as_json is not None and _takes_json_alone(request.headers.get("accept", "")):
            return JSONResponse(await asyncio.to_thread(result.as_json, result.body))
        return Response(result.body, media_type=result.media_type)

    async def cancel_future(self, request: Request) -> wire.Nothing:
        """Stops a sample. Training jobs run to their end: others may stand behind them."""
        asked = wire.parse(wire.RetrieveFuture, await body_of(request))
        cancelled = failure("the request was cancelled by the client", "user")
        self.futures.cancel(tenant_of(request), asked.request_id, cancelled)
        return wire.Nothing()


def _takes_json_alone(accept: str) -> bool:
    # SDK 0.22 names both types and prefers protobuf; the first ones knew JSON only. Who says nothing gets protobuf.
    return "application/json" in accept and PROTOBUF not in accept
