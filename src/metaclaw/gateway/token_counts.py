"""How many tokens a request would take, before it is sent.

Owns the choice between the model's own count and an estimate; refuses to know turns, because counting is none.
Invariant: an estimate says that it is one.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from metaclaw.chat.anthropic.counting import estimate_request
from metaclaw.chat.dialect import ClientRequest
from metaclaw.gateway.routing import Router
from metaclaw.http.sse import CLIENT_CLOSED_REQUEST, ClientLeftError, unless_client_leaves

ESTIMATED = {"X-MetaClaw-Token-Count": "estimate"}


async def count_tokens(
    router: Router, request: ClientRequest, *, headers: Mapping[str, str], receive: Receive
) -> Response:
    """The answer to ``POST /v1/messages/count_tokens``. Raises ``UpstreamError`` when the model that counts fails."""
    try:
        return await unless_client_leaves(receive, _count(router, request, headers))
    except ClientLeftError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _count(router: Router, request: ClientRequest, headers: Mapping[str, str]) -> Response:
    reply = await router.count_tokens(request, headers)
    if reply is None:
        return JSONResponse({"input_tokens": estimate_request(request.body)}, headers=ESTIMATED)
    try:
        body = await reply.read()
    finally:
        reply.close()
    return Response(body, media_type=reply.content_type, headers=reply.headers)
