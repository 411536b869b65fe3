"""The memory as a process of its own, over the routes of ``/v1/memory``.

Owns what the routes stand on where there is no gateway; refuses to know what they do. Invariant: nothing but
``/healthz`` answers without the token, which is the owner's.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metaclaw.config import Settings, is_loopback
from metaclaw.errors import ConfigError, JournalError
from metaclaw.gateway.access import OWNER, Principal
from metaclaw.gateway.door import Door
from metaclaw.gateway.http_protocol import KEEP_ALIVE_S, LimitedHttpProtocol
from metaclaw.gateway.memory_desk import MemoryDesk
from metaclaw.gateway.memory_routes import memory_routes
from metaclaw.http.auth import require_token
from metaclaw.http.errors import exception_handlers
from metaclaw.http.hosts import KnownHosts
from metaclaw.journal.access_store import Limits
from metaclaw.memory.asking import Asking
from metaclaw.memory.reindexing import reindex_some
from metaclaw.memory.service import MemoryService
from metaclaw.memory.store import MemoryStore
from metaclaw.retrieval.configured import open_embedder
from metaclaw.upstreams.session import new_session

_PREFIXES = ("", "/agents/{agent}")
_log = logging.getLogger(__name__)


class _OneToken:
    def __init__(self, token: str) -> None:
        self._token = token

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        require_token(headers, self._token)
        return Principal(id=OWNER, name=OWNER, agent=None, limits=Limits())


def _whoever(agent: str) -> None:
    """Which agents there are is the gateway's to say, and it did before it asked."""


class _NoTurns:
    async def flush(self) -> None:
        """No turn passes here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDeps:
    """What the routes stand on."""

    reception: Door
    memory: MemoryDesk | None
    recorder: _NoTurns
    sidecar: MemoryService | None = None


def token_of(settings: Settings) -> str:
    """The token that the process asks for and is asked with."""
    return (settings.memory.sidecar_api_key or settings.proxy.api_key).get_secret_value()


def memory_app(
    settings: Settings, *, hosts: Collection[str] | None, clock: Callable[[], float] = time.time
) -> Starlette:
    """The application; the store is opened by the first request that needs it. Raises ``ConfigError``."""
    token = token_of(settings)
    if not token:
        raise ConfigError("there is no token: set memory.sidecar_api_key, or run `metaclaw setup`, which makes one")
    proxy = settings.proxy
    door = Door(
        access=_OneToken(token),
        max_body_bytes=proxy.max_body_bytes,
        body_timeout_s=proxy.body_timeout_s,
        clock=clock,
        require_known=_whoever,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(new_session())
            embedder = await asyncio.to_thread(open_embedder, settings.embeddings, session)
            min_likeness = settings.embeddings.min_likeness
            asking = None if embedder is None else Asking(embedder, min_likeness=min_likeness)
            desk = MemoryDesk(settings.memory_db, asking) if settings.memory.enabled else None
            if desk is not None:
                stack.push_async_callback(desk.close)
                await stack.enter_async_context(_indexing_anew(settings.memory_db))
            app.state.deps = MemoryDeps(reception=door, memory=desk, recorder=_NoTurns())
            yield

    return Starlette(
        routes=[*memory_routes(_PREFIXES), Route("/healthz", _healthz, methods=["GET"])],
        middleware=[] if hosts is None else [Middleware(KnownHosts, allowed=hosts, dialect=lambda _: "openai")],
        exception_handlers=exception_handlers("openai", _hint),
        lifespan=lifespan,
    )


def _hint(path: str) -> str:
    return "" if "/v1/memory" in path else ": what is remembered is below /v1/memory, as on the gateway"


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop. Raises ``ConfigError``."""
    allowed = frozenset(name.lower() for name in settings.proxy.allowed_hosts)
    if not is_loopback(host) and not settings.memory.sidecar_api_key.get_secret_value():
        raise ConfigError(f"{host} is for other machines: set memory.sidecar_api_key first, the token that they show")
    hosts = allowed if is_loopback(host) or allowed else None
    uvicorn.run(
        memory_app(settings, hosts=hosts), host=host, port=port, log_level="warning", access_log=False,
        server_header=False, proxy_headers=False, ws="none", http=LimitedHttpProtocol, timeout_keep_alive=KEEP_ALIVE_S,
    )  # fmt: skip


@asynccontextmanager
async def _indexing_anew(path: Path) -> AsyncGenerator[None]:
    """After an update, on a connection of its thread's own: there may be no learner at this home to do it."""
    is_ending = threading.Event()
    indexing = asyncio.create_task(asyncio.to_thread(_index_anew, path, is_ending))
    try:
        yield
    finally:
        is_ending.set()
        await asyncio.wait([indexing])


def _index_anew(path: Path, is_ending: threading.Event) -> None:
    if not path.exists():
        return
    number = 0
    try:
        with MemoryStore.open(path) as store:
            start = time.perf_counter()
            while not is_ending.is_set() and (done := reindex_some(store)):
                number += done
                is_ending.wait(time.perf_counter() - start)  # others read and write meanwhile
                start = time.perf_counter()
    except JournalError as error:
        _log.warning("the words of the memories could not be indexed anew, so some are not found: %s", error)
        return
    if number:
        _log.info("the words of %d memories are indexed anew", number)


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})
