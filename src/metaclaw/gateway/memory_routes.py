"""``/v1/memory``: what an agent remembers, for programs.

Owns the shapes of requests and answers; refuses to know how anything is found or kept. Invariant: a request sees and
changes what its agent remembers and nothing else; a token that is bound to an agent can be no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metaclaw.errors import ForbiddenError, InvalidRequestError
from metaclaw.gateway.door import Door
from metaclaw.gateway.memory_desk import MemoryDesk
from metaclaw.gateway.memory_turns import BufferTurn, FlushSession, Ingest, buffer_turn, flush_session, ingest
from metaclaw.http.body import parse_json_object
from metaclaw.http.errors import error_body
from metaclaw.memory.extraction.remembered import TRUST
from metaclaw.memory.forgetting import forgotten_ids
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.reports import maintain, plan, report_state, report_use
from metaclaw.memory.service import MemoryService
from metaclaw.memory.units import Kind, MemoryUnit, Scope, new_id
from metaclaw.recall.candidates import About
from metaclaw.recall.memories import whose

_MAX_LIMIT = 200
_NUM_SUMMARISED = 20
_OWNERS = {"user": "x-user-id", "workspace": "x-workspace-id", "session": "x-session-id"}
_ALL = "all"
_PASSED_ON = frozenset({*_OWNERS.values(), "x-memory-scope", "content-type"})
_PATIENCE_S = 60.0  # with the process that keeps the memory: reading a session takes a while

M = TypeVar("M", bound=BaseModel)


class Flushes(Protocol):
    """The slice of the recorder that is used here."""

    async def flush(self) -> None: ...


class Stands(Protocol):
    """The slice of the gateway's dependencies that is used here."""

    @property
    def reception(self) -> Door: ...
    @property
    def recorder(self) -> Flushes: ...
    @property
    def memory(self) -> MemoryDesk | None: ...
    @property
    def sidecar(self) -> MemoryService | None: ...


class NewMemory(BaseModel):
    """What a person wants remembered, or a model (``source`` "tool"): that is believed as results of tools are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1)
    kind: Kind = "semantic"
    scope: Scope = "agent"
    subject: str = Field(default="", max_length=200)
    standing: bool = False
    user: str | None = Field(default=None, max_length=200)
    workspace: str | None = Field(default=None, max_length=200)
    session: str | None = Field(default=None, max_length=200)
    source: Literal["manual", "tool"] = "manual"

    def unit(self, agent: str, now: float) -> MemoryUnit:
        """It as a unit. Raises ``InvalidRequestError``."""
        if self.standing and self.source == "tool":  # whatever a page talked a model into would be told for ever
            raise InvalidRequestError("what a model stores cannot stand: that is for the user to say", param="standing")
        trust = TRUST["tool"] if self.source == "tool" else 1.0
        return MemoryUnit(id=new_id(), agent=agent, said_at=now, created_at=now, trust=trust, **self.model_dump())


class Served(BaseModel):
    """Which memories are looked for, and how far they must be trusted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ids: list[str] = Field(max_length=10_000)
    min_trust: float = Field(default=0.0, ge=0, le=1)


Handler = Callable[[Request, MemoryDesk, str], Awaitable[object]]


def memory_routes(prefixes: Sequence[str]) -> list[Route]:
    """The routes, below each of ``prefixes``; ``app.state.deps`` has what ``Stands`` names."""
    handlers: list[tuple[str, str, Handler]] = [
        ("GET", "/stats", _stats),
        ("GET", "/search", _search),
        ("GET", "/health", _health),
        ("GET", "/summary", _summary),
        ("GET", "/feedback-analysis", _feedback_analysis),
        ("GET", "/operator-report", _operator_report),
        ("GET", "/forgotten", _forgotten),
        ("POST", "/served", _served),
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
        if handler in _OF_ALL_AGENTS:
            await _require_owner(request)
        if deps.memory is None:
            message = "the memory is switched off: set memory.enabled to true"
            return JSONResponse(error_body("openai", status=503, message=message, code="memory_off"), status_code=503)
        if deps.sidecar is not None:
            return await _passed_on(request, deps, deps.sidecar, agent)
        return JSONResponse(await handler(request, deps.memory, agent))

    return answer


async def _passed_on(request: Request, deps: Stands, sidecar: MemoryService, agent: str) -> Response:
    """The answer of the process that keeps the memory."""
    body = await deps.reception.body(request)
    await deps.recorder.flush()  # it may be about to read a turn that ended a moment ago
    headers = {name: value for name, value in request.headers.items() if name in _PASSED_ON}
    answer = await sidecar.passed_on(
        request.method,
        request.url.path.partition("/v1/memory")[2],
        agent=agent,
        query=request.url.query,
        body=body,
        headers=headers,
        timeout_s=_PATIENCE_S,
    )
    return Response(answer.body, status_code=answer.status, media_type="application/json")


async def _stats(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"agent": agent, **await memory.stats(agent)}


async def _health(request: Request, memory: MemoryDesk, agent: str) -> object:
    await memory.stats(agent)
    return {"status": "ok", "enabled": True}


async def _search(request: Request, memory: MemoryDesk, agent: str) -> object:
    text = request.query_params.get("q") or request.query_params.get("query") or ""
    if not text.strip():
        raise InvalidRequestError("say what to look for: ?q=...", param="q")
    least = {name: _share(request, name) for name in ("min_score", "min_trust")}
    query = replace(_seen(request, agent), text=text, limit=_limit(request), num_standing=_standing(request), **least)
    return {"scope": _scope_of(query), "results": [_found(one) for one in await memory.search(query)]}


async def _summary(request: Request, memory: MemoryDesk, agent: str) -> object:
    query = replace(_seen(request, agent), limit=_NUM_SUMMARISED)
    newest = await memory.do(lambda store: store.newest(query))
    counts = await memory.stats(agent)
    return {"agent": agent, "scope": _scope_of(query), "counts": counts, "newest": [asdict(unit) for unit in newest]}


async def _feedback_analysis(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"agent": agent, **asdict(await memory.do(lambda store: report_use(store, agent)))}


async def _forgotten(request: Request, memory: MemoryDesk, agent: str) -> object:
    return {"ids": sorted(await memory.do(forgotten_ids))}


async def _served(request: Request, memory: MemoryDesk, agent: str) -> object:
    asked = await _told(request, Served)
    units = await memory.do(lambda store: store.get(asked.ids))
    return {"ids": [unit.id for unit in units if unit.trust >= asked.min_trust]}


async def _operator_report(request: Request, memory: MemoryDesk, agent: str) -> object:
    return asdict(await memory.do(report_state))


async def _action_plan(request: Request, memory: MemoryDesk, agent: str) -> object:
    now = _now(request)
    actions = await memory.do(lambda store: plan(store, agent, now))
    return {"agent": agent, "actions": [asdict(action) for action in actions]}


async def _maintenance(request: Request, memory: MemoryDesk, agent: str) -> object:
    now = _now(request)
    return {"done": await memory.do(lambda store: maintain(store, now))}


async def _one(request: Request, memory: MemoryDesk, agent: str) -> object:
    return asdict(await memory.get(request.path_params["unit"], agent))


async def _forget(request: Request, memory: MemoryDesk, agent: str) -> object:
    forgotten = await memory.forget(request.path_params["unit"], agent, now=_now(request))
    return {"forgotten": forgotten.ids, "is_clean": forgotten.is_clean}


async def _store(request: Request, memory: MemoryDesk, agent: str) -> object:
    new = await _told(request, NewMemory)
    now = _now(request)
    kept = await memory.add(new.unit(agent, now), now)
    return {"id": kept, "is_stored": bool(kept)}


async def _buffer_turn(request: Request, memory: MemoryDesk, agent: str) -> object:
    told = await _told(request, BufferTurn)
    return await buffer_turn(memory, agent, told, request.headers, _now(request))


async def _flush_session(request: Request, memory: MemoryDesk, agent: str) -> object:
    deps: Stands = request.app.state.deps
    asked = await _told(request, FlushSession)
    await deps.recorder.flush()  # a turn may have ended a moment ago
    return await flush_session(memory, agent, asked, deps.reception.clock)


async def _ingest(request: Request, memory: MemoryDesk, agent: str) -> object:
    deps: Stands = request.app.state.deps
    asked = await _told(request, Ingest)
    await deps.recorder.flush()
    return await ingest(memory, agent, asked, deps.reception.clock)


async def _told(request: Request, shape: type[M]) -> M:
    """The body as ``shape``. Raises ``InvalidRequestError`` that names what is wrong."""
    deps: Stands = request.app.state.deps
    body = await deps.reception.body(request)
    try:
        return shape.model_validate(parse_json_object(body) if body else {})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidRequestError(f"{name!r}: {first['msg']}", param=name) from error


async def _require_owner(request: Request) -> None:
    deps: Stands = request.app.state.deps
    if (bound := (await deps.reception.authenticate(request)).agent) is not None:
        raise ForbiddenError(f"this is about the memory of all agents, and this token is agent {bound!r}'s alone")


def _seen(request: Request, agent: str) -> MemoryQuery:
    """What a request may see: as recall would tell it to whom the request is about, everything only when asked."""
    asked = {
        name: request.query_params.get(name) or request.headers.get(header) or None for name, header in _OWNERS.items()
    }
    scope = request.query_params.get("scope") or request.headers.get("x-memory-scope") or None
    history = request.query_params.get("history", "") in ("1", "true")
    query = MemoryQuery(text="", agent=agent, now=_now(request), with_history=history)
    if scope == _ALL:
        return replace(query, is_everything=True)
    about = About(
        agent=agent,
        session=asked["session"] or "",
        user=asked["user"],
        workspace=asked["workspace"],
        memory_scope=scope,
    )
    owners = whose(about)
    if owners is None:
        raise InvalidRequestError("scope 'none' sees nothing; leave it out, or say agent, user or all", param="scope")
    return replace(query, user=owners.user, workspace=owners.workspace, session=owners.session or None)


def _scope_of(query: MemoryQuery) -> dict[str, object]:
    """What was looked through, so that nobody takes a part for the whole."""
    given = {"user": query.user, "workspace": query.workspace, "session": query.session}
    owners = {name: value for name, value in given.items() if value}
    return {"agent": query.agent, "everything": query.is_everything, **owners}


def _now(request: Request) -> float:
    deps: Stands = request.app.state.deps
    return deps.reception.clock()


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "20")
    if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:9]) <= _MAX_LIMIT:
        raise InvalidRequestError(f"limit must be a number from 1 to {_MAX_LIMIT}", param="limit")
    return int(given)


def _standing(request: Request) -> int:
    given = request.query_params.get("standing", "0")
    if not given.isascii() or not given.isdecimal() or not int(given[:9]) <= _MAX_LIMIT:
        raise InvalidRequestError(f"standing must be a number from 0 to {_MAX_LIMIT}", param="standing")
    return int(given)


def _share(request: Request, name: str) -> float:
    given = request.query_params.get(name, "0")
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidRequestError(f"{name} must be a number from 0 to 1", param=name)
    return value


_OF_ALL_AGENTS: tuple[Handler, ...] = (_operator_report, _maintenance, _forgotten, _served)


def _found(found: Found) -> dict[str, object]:
    return {"unit": asdict(found.unit), "score": found.score, "parts": dict(found.parts)}
