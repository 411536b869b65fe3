"""The page and the facts that it shows, over HTTP.

Owns the routes, who may ask them, and what a browser may do with the answers; refuses to know what is shown.
Invariants: nothing is answered but to this machine's own names and to whoever opened the address with the key in it;
no route changes anything; the page runs no script and loads nothing but its own files, so that what is shown in it,
which strangers wrote, stays text.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from metaclaw.config import Settings
from metaclaw.config_file import read_settings
from metaclaw.dashboard import learned, turns
from metaclaw.dashboard.overview import overview
from metaclaw.errors import AuthenticationError, ConfigError, NotFoundError
from metaclaw.http.errors import exception_handlers
from metaclaw.http.hosts import KnownHosts
from metaclaw.identity import agent_id

PAGE = Path(__file__).parent / "page"
ENTRY = "/enter"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Name = Annotated[str | None, Query(max_length=500)]
Number = Annotated[int | None, Query(ge=0, lt=2**63)]  # as the database has them


class _Facts(JSONResponse):
    """JSON of whatever was recorded: half a character, which clients send, has no UTF-8 but a number."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def make_app(home: Path, key: str, *, cookie: str, ticket: str = "") -> FastAPI:
    """The application over ``home``, whose settings each request reads anew, for whoever knows ``key``.

    The browser keeps the key as ``cookie``, which pages on other ports of this machine see too. Whoever comes with
    ``ticket`` first is let in as well, and nobody with it after that.
    """
    tickets = [ticket] if ticket else []

    def authorised(request: Request) -> None:
        if not hmac.compare_digest(_presented(request, cookie), key.encode()):
            raise AuthenticationError(
                "open the address that `metaclaw dashboard` printed; each start of it has a key of its own"
            )

    handlers: dict[Any, Any] = dict(exception_handlers("openai"))
    app = FastAPI(
        openapi_url=None,
        exception_handlers=handlers,
        middleware=[Middleware(KnownHosts, allowed=(), dialect=_dialect)],
    )
    app.middleware("http")(_with_headers)

    @app.get(ENTRY)
    async def enter(presented: Annotated[str, Query(alias="key")] = "") -> Response:  # one at a time: tickets are
        if tickets and hmac.compare_digest(presented.encode(), tickets[0].encode()):
            tickets.clear()
        elif not hmac.compare_digest(presented.encode(), key.encode()):
            raise AuthenticationError(
                "open the address that `metaclaw dashboard` printed: this one is of another start, or was used"
            )
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(cookie, key, httponly=True, samesite="strict")
        return answer

    app.include_router(_facts(_Latest(home)), prefix="/api", dependencies=[Depends(authorised)])
    app.include_router(_files(), dependencies=[Depends(authorised)])
    return app


class _Latest:
    """The settings of ``home``, read anew each time; while they cannot be read those of before, and why."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._last = read_settings(home)[0]

    def read(self) -> tuple[Settings, str | None]:
        try:
            self._last = read_settings(self._home)[0]
        except ConfigError as error:  # as what runs goes on with those of before
            return self._last, str(error)
        return self._last, None


def _facts(latest: _Latest) -> APIRouter:
    """What the page asks for. Each of them reads a disk, in a thread of its own."""
    router = APIRouter()

    def settings() -> Settings:
        return latest.read()[0]

    @router.get("/overview")
    def _overview() -> Response:
        known, trouble = latest.read()
        return _Facts(overview(known, trouble_in_file=trouble))

    @router.get("/turns")
    def _turns(agent: Name = None, session: Name = None, before: Number = None) -> Response:
        return _Facts(turns.newest(settings(), agent=_agent(agent), session=session or None, before=before))

    @router.get("/turns/{turn}")
    def _turn(turn: str) -> Response:
        return _Facts(turns.one(settings(), turn))

    @router.get("/policies")
    def _policies() -> Response:
        return _Facts(learned.policies(settings()))

    @router.get("/skills")
    def _skills() -> Response:
        return _Facts(learned.skills(settings()))

    @router.get("/memories")
    def _memories(agent: Name = None, words: Annotated[str, Query(max_length=2000)] = "") -> Response:
        return _Facts(learned.memories(settings(), agent=_agent(agent), words=words))

    return router


def _files() -> APIRouter:
    router = APIRouter()

    @router.get("/")
    @router.get("/{name}")
    def _file(name: str = "index.html") -> Response:
        path = PAGE / name
        if path.parent != PAGE or path.suffix not in _TYPES or not path.is_file():
            raise NotFoundError(f"there is no page {name!r}")
        return FileResponse(path, media_type=_TYPES[path.suffix])

    return router


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    answer = await call_next(request)
    answer.headers.update(_HEADERS)
    return answer


def _presented(request: Request, cookie: str) -> bytes:
    # Programs on other ports of this machine have theirs in the same header, as broken as they like: the standard
    # library's parser gives up at the first of those, and ours would not be found.
    return request.cookies.get(cookie, "").encode()


def _agent(name: str | None) -> str | None:
    return agent_id(name) if name else None


def _dialect(_request: Request) -> Literal["openai"]:
    return "openai"
