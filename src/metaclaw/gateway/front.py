"""The way of turns past the routes of everything else.

Owns what a router and its layers do for other requests, done once for a turn: its path, the name of the host, what it
is counted as, and errors in its client's shape; refuses to know how a turn is answered. Invariant: no client sees a
difference: whatever is not a turn that is posted goes to the application with the routes, also who asks for the path of
a turn in another way.

Nearly all requests are turns, and the layers of a router took a tenth of what the gateway adds to them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, cast

from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from metaclaw.chat.dialect import Dialect
from metaclaw.errors import MetaClawError, UpstreamError
from metaclaw.gateway.metrics import GatewayMetrics
from metaclaw.gateway.paths import error_dialect_of
from metaclaw.gateway.proxy import Proxy
from metaclaw.gateway.reception import Reception
from metaclaw.http.errors import Dialect as ErrorDialect
from metaclaw.http.errors import bug_answer, error_answer
from metaclaw.http.hosts import asked_host, host_refusal, is_known_host
from metaclaw.http.sse import CLIENT_CLOSED_REQUEST

_log = logging.getLogger(__name__)

_OF_AGENT = re.compile(r"/agents/([^/]+)(/.*)")
_NO_ANSWER = "none"


class TurnDeps(Protocol):
    """What turns stand on."""

    @property
    def reception(self) -> Reception: ...
    @property
    def proxy(self) -> Proxy: ...
    @property
    def metrics(self) -> GatewayMetrics: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPath:
    """Where the turns of one dialect are posted; ``errors`` is the shape in which its clients know errors.

    It is also the endpoint of the path's route: a router then knows the path, and that it is posted to.
    """

    path: str
    dialect: Dialect
    errors: ErrorDialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(404)  # what is posted to exactly this path never comes to a router


def turn_path(dialect: Dialect) -> TurnPath:
    """The path of a dialect's turns, without that of an agent before it."""
    path = f"/v1{dialect.path}"
    return TurnPath(path=path, dialect=dialect, errors=error_dialect_of(path))


class Front:
    """The ASGI application of the gateway: ``others`` with turns before it. ``hosts`` as of ``known_hosts``."""

    def __init__(self, others: Starlette, turns: Iterable[TurnPath], *, hosts: Collection[str] | None) -> None:
        self._others = others
        self._hosts = hosts
        self._turns = {turn.path: turn for turn in turns}

    @property
    def state(self) -> State:
        """What the application keeps: ``deps``, from its start on."""
        return self._others.state

    @property
    def routes(self) -> list[BaseRoute]:
        """All that it answers to, the turns too."""
        return self._others.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn, agent = self._turn_of(scope)
        if turn is None:
            await self._others(scope, receive, _without_traceback(send) if scope["type"] == "lifespan" else send)
            return
        deps = cast(TurnDeps, self.state.deps)
        status = _NO_ANSWER
        try:
            response = await self._answer(deps, turn, agent, scope, receive)
            status = str(response.status_code)
            await response(scope, receive, send)
        except asyncio.CancelledError:
            if status == _NO_ANSWER:  # the server's own word would be a 500 in no dialect
                ended = error_answer(_ended(), turn.errors)
                status = str(ended.status)
                await ended.response()(scope, receive, send)
            raise
        except Exception as error:
            if status == _NO_ANSWER:
                status = "500"
                await bug_answer(error, turn.errors, f"POST {turn.path}").response()(scope, receive, send)
            raise
        finally:
            deps.metrics.requests.add(turn.path, "POST", status)

    def _turn_of(self, scope: Scope) -> tuple[TurnPath | None, str | None]:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None, None
        path: str = scope["path"]
        if (turn := self._turns.get(path)) is not None:
            return turn, None
        found = _OF_AGENT.fullmatch(path)
        return (None, None) if found is None else (self._turns.get(found[2]), found[1])

    async def _answer(
        self, deps: TurnDeps, turn: TurnPath, agent: str | None, scope: Scope, receive: Receive
    ) -> Response:
        if self._hosts is not None and not is_known_host(host := asked_host(scope["headers"]), self._hosts):
            return host_refusal(host, turn.errors)
        try:
            incoming = await deps.reception.turn(
                scope, receive, dialect=turn.dialect, errors=turn.errors, path_agent=agent
            )
            try:
                return await deps.proxy.respond(incoming)
            except BaseException:
                deps.reception.turns.end(incoming.turn_id, None)
                raise
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except MetaClawError as error:
            return error_answer(error, turn.errors).response()


def _ended() -> UpstreamError:
    return UpstreamError("the gateway was stopped before the model answered; ask again", status=503)


def _without_traceback(send: Send) -> Send:
    """``send`` for the start and the end of the application: Starlette's own word for a failure is a whole traceback,
    which says in its last line what the user needs, and may quote settings.
    """

    async def told(message: Message) -> None:
        if message["type"].endswith(".failed"):
            error = sys.exc_info()[1]
            if not isinstance(error, MetaClawError):
                _log.error("the gateway cannot go on", exc_info=error)
            message = {**message, "message": str(error) if isinstance(error, MetaClawError) else type(error).__name__}
        await send(message)

    return told
