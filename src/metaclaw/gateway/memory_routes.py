"""``/v1/memory``: what an agent remembers, for programs.

Owns the shapes of requests and answers; refuses to know how anything is found or kept. Invariant: a request sees and
changes what its agent remembers and nothing else; a token that is bound to an agent can be no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metaclaw.errors import InvalidRequestError
from metaclaw.gateway.memory_desk import MemoryDesk
from metaclaw.gateway.reception import Reception
from metaclaw.http.body import parse_json_object
from metaclaw.http.errors import error_body
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.units import Kind, MemoryUnit, Scope, new_id

_MAX_LIMIT = 200
_NUM_SUMMARISED = 20
_OWNERS = (("user", "x-user-id"), ("workspace", "x-workspace-id"), ("session", "x-session-id"))
_READ_FROM_TURNS = "turns that pass through the gateway are read for memories by the learner; nothing waits here"


class Stands(Protocol):
    """The slice of the gateway's dependencies that is used here."""

    @property
    def reception(self) -> Reception: ...
    @property
    def memory(self) -> MemoryDesk | None: ...


class NewMemory(BaseModel):
    """What a program or a person wants remembered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1)
    kind: Kind = "semantic"
    scope: Scope = "agent"
    subject: str = Field(default="", max_length=200)
    user: str | None = Field(default=None, max_length=200)
    workspace: str | None = Field(default=None, max_length=200)
    session: str | None = Field(default=None, max_length=200)

    def unit(self, agent: str, now: float) -> MemoryUnit:
        """It as a unit. Raises ``InvalidRequestError``."""
        return MemoryUnit(id=new_id(), agent=agent, said_at=now, created_at=now, source="manual", **self.model_dump())


Handler = Callable[[Request, MemoryDesk, str], Awaitable[object]]


def memory_routes(prefixes: Sequence[str]) -> list[Route]:
    """The routes, below each of ``prefixes``; ``app.state.deps`` has what ``Stands`` names."""
    handlers: list[tuple[str, str, Handler]] = [
        ("GET", "/stats", _stats),
        ("GET", "/search", _search),
        ("GET", "/health", _health),
        ("GET", "/summary", _summary),
        ("POST", "/store", _store),
        ("POST", "/ingest", _ingest),
        ("POST", "/flush_session", _flush_session),
        ("POST", "/buffer_turn", _buffer_turn),
        ("POST", "/action-plan", _action_plan),
        ("POST", "/maintenance", _maintenance),
        ("GET", "/{unit}", _one),
        ("DELETE", "/{unit}", _forget),
    ]
    return [
        Route(f"{prefix}/v1/memory{path}", _answering(handler), methods=[method])
        for prefix in prefixes
        for method, path, handler in handlers
    ]


def _answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        deps: Stands = request.app.state.deps
        agent = await deps.reception.agent(request)
        if deps.memory is None:
            message = "the memory is switched off: set memory.enabled to true"
            return JSONResponse(error_body("openai", status=503, message=message, code="memory_off"), status_code=503)
        return JSONResponse(await handler(request, deps.memory, agent))

    return answer


async def _stats(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"agent": agent, **await memory.stats(agent)}


async def _health(request: Request, memory: MemoryDesk, agent: str) -> object:
    await memory.stats(agent)
    return {"status": "ok", "enabled": True}


async def _search(request: Request, memory: MemoryDesk, agent: str) -> object:
    text = request.query_params.get("q") or request.query_params.get("query") or ""
    if not text.strip():
        raise InvalidRequestError("say what to look for: ?q=...", param="q")
    user, workspace, session = (
        request.query_params.get(name) or request.headers.get(header) for name, header in _OWNERS
    )
    query = MemoryQuery(
        text=text,
        agent=agent,
        now=_now(request),
        limit=_limit(request),
        user=user,
        workspace=workspace,
        session=session,
        is_everything=not (user or workspace or session),
        with_history=request.query_params.get("history", "") in ("1", "true"),
    )
    return {"results": [_found(one) for one in await memory.search(query)]}


async def _summary(request: Request, memory: MemoryDesk, agent: str) -> object:
    newest = await memory.latest(agent, _NUM_SUMMARISED)
    counts = await memory.stats(agent)
    return {"agent": agent, "counts": counts, "newest": [asdict(unit) for unit in newest]}


async def _one(request: Request, memory: MemoryDesk, agent: str) -> object:
    return asdict(await memory.get(request.path_params["unit"], agent))


async def _forget(request: Request, memory: MemoryDesk, agent: str) -> object:
    forgotten = await memory.forget(request.path_params["unit"], agent, now=_now(request))
    return {"forgotten": forgotten.ids, "is_clean": forgotten.is_clean}


async def _store(request: Request, memory: MemoryDesk, agent: str) -> object:
    deps: Stands = request.app.state.deps
    body = parse_json_object(await deps.reception.body(request))
    try:
        new = NewMemory.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidRequestError(f"{name!r}: {first['msg']}", param=name) from error
    now = _now(request)
    kept = await memory.add(new.unit(agent, now), now)
    return {"id": kept, "is_stored": bool(kept)}


async def _ingest(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"added": 0, "buffered_turns": 0, "sessions": 0, "note": _READ_FROM_TURNS}


async def _flush_session(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"added": 0, "note": _READ_FROM_TURNS}


async def _buffer_turn(request: Request, memory: MemoryDesk, agent: str) -> object:
    raise InvalidRequestError(
        "turns are not taken here: send them through the gateway, which records them and reads them for memories;"
        " a single statement goes to POST /v1/memory/store"
    )


async def _action_plan(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"actions": [], "note": "contradictions and repetitions are settled whenever something is remembered"}


async def _maintenance(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"done": [], "note": "there is nothing to do at intervals; `metaclaw memory doctor` checks the store"}


def _now(request: Request) -> float:
    deps: Stands = request.app.state.deps
    return deps.reception.clock()


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "20")
    if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:9]) <= _MAX_LIMIT:
        raise InvalidRequestError(f"limit must be a number from 1 to {_MAX_LIMIT}", param="limit")
    return int(given)


def _found(found: Found) -> dict[str, object]:
    return {"unit": asdict(found.unit), "score": found.score, "parts": dict(found.parts)}
