"""The training server as one ASGI application.

Owns how its parts are put together and torn down; refuses to know routes and sockets. Invariant: everything that
runs in the background runs in the one task group of the lifespan, and ends with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metaclaw.errors import InvalidRequestError
from metaclaw.http.counting import CountRequests
from metaclaw.http.errors import Dialect, error_answer, exception_handlers
from metaclaw.rendering.renderer import Renderer, load_renderer
from metaclaw.training.api.access_tokens import AccessTokens
from metaclaw.training.api.account_routes import AccountRoutes
from metaclaw.training.api.adapters import Adapters
from metaclaw.training.api.admission import Admission, Kind, Load
from metaclaw.training.api.background import Background, background
from metaclaw.training.api.checkpoint_routes import CheckpointRoutes
from metaclaw.training.api.checkpoints import CheckpointStore, sweep_left
from metaclaw.training.api.database import open_database
from metaclaw.training.api.download_routes import DownloadRoutes
from metaclaw.training.api.future_routes import FutureRoutes
from metaclaw.training.api.futures import Futures
from metaclaw.training.api.hub_files import read_hub_files
from metaclaw.training.api.hub_routes import HubRoutes
from metaclaw.training.api.import_routes import ImportRoutes
from metaclaw.training.api.imports import Imports
from metaclaw.training.api.keys import Keyring
from metaclaw.training.api.metrics import CONTENT_TYPE as METRICS_TYPE
from metaclaw.training.api.metrics import Metrics, count_request
from metaclaw.training.api.models import LiveModels
from metaclaw.training.api.older_paths import hint
from metaclaw.training.api.openai_routes import OpenAIRoutes
from metaclaw.training.api.records import Checkpoint
from metaclaw.training.api.registry import Registry
from metaclaw.training.api.requests import authorised
from metaclaw.training.api.sampling import BaseModel, Sampling
from metaclaw.training.api.sampling_routes import SamplingRoutes
from metaclaw.training.api.session_routes import SessionRoutes
from metaclaw.training.api.signing import Signer
from metaclaw.training.api.token_counts import TokenCountRoutes
from metaclaw.training.api.training_routes import TrainingRoutes
from metaclaw.training.api.wire import Health
from metaclaw.training.api.workers import Worker, WorkerSpec

STALE_SESSION_S = 900.0  # the SDK's heart beats every 10 s; a closed laptop may sleep a while
_SWEEP_S = 30.0
_FORGOTTEN_S = 30 * 86400.0  # for so long a sampler can be used after its session fell silent
_CHECKPOINTS = "checkpoints"  # folder in the data directory


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDeps:
    """What the application stands on."""

    api_key: str
    data_dir: Path
    base: BaseModel
    engine: WorkerSpec
    sampler: WorkerSpec
    max_rank: int
    limits: dict[Kind, Load]
    max_import_bytes: int = 4 << 30
    clock: Callable[[], float] = time.time


def make_app(deps: ServerDeps) -> FastAPI:
    """The application. Its lifespan starts the workers; ``app.state.stop_waiting`` ends every long poll."""
    metrics = Metrics()
    engine, sampler = Worker(deps.engine, metrics.watch), Worker(deps.sampler, metrics.watch)
    metrics.add_workers((engine, sampler))
    futures = Futures(time.monotonic)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with open_database(deps.data_dir / "server.db") as database, background() as tasks:
            registry = Registry(database)
            await sweep_left(deps.data_dir / _CHECKPOINTS, registry)  # only while no engine writes there
            for worker in (engine, sampler):
                tasks.start(worker.run())
            renderer = await asyncio.to_thread(load_renderer, Path(deps.base.directory))  # while the workers load
            parts = _assemble(deps, engine, sampler, registry, futures, tasks, renderer, metrics)
            keyring = Keyring(deps.api_key, database, time.monotonic, parts.tokens)
            app.include_router(_metrics_router(metrics), dependencies=[Depends(authorised(keyring, admins_only=True))])
            app.include_router(parts.downloads().open_router())
            hub = HubRoutes(base=deps.base, hub=await asyncio.to_thread(read_hub_files, Path(deps.base.directory)))
            app.include_router(hub.router(), dependencies=[Depends(authorised(keyring))])
            app.mount("/api/v1", _part(keyring, "tinker", [*parts.tinker_routers(), health]))
            app.mount("/v1", _part(keyring, "openai", [parts.openai.router(), TokenCountRoutes(renderer).router()]))
            tasks.start(parts.sweep())
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None, exception_handlers=_handlers("openai"))

    app.state.stop_waiting = futures.close

    @app.get("/healthz")
    async def healthz() -> Health:
        return Health()

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        return _readiness(engine, sampler)

    app.add_middleware(CountRequests, told=count_request(metrics))
    health = APIRouter()
    health.add_api_route("/healthz", healthz)
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What exists while the server runs."""

    clock: Callable[[], float]
    registry: Registry
    futures: Futures
    models: LiveModels
    checkpoints: CheckpointStore
    sampling: Sampling
    tasks: Background
    openai: OpenAIRoutes[Checkpoint]
    signer: Signer
    max_rank: int
    imports: Imports

    @property
    def tokens(self) -> AccessTokens:
        return AccessTokens(signer=self.signer, clock=self.clock)

    def downloads(self) -> DownloadRoutes:
        return DownloadRoutes(checkpoints=self.checkpoints, signer=self.signer, clock=self.clock)

    def tinker_routers(self) -> list[APIRouter]:
        base, registry, clock = self.sampling.base, self.registry, self.clock
        return [
            SessionRoutes(registry=registry, models=self.models, sampling=self.sampling, clock=clock).router(),
            FutureRoutes(futures=self.futures).router(),
            TrainingRoutes(
                models=self.models, checkpoints=self.checkpoints, registry=registry, base=base, max_rank=self.max_rank,
                clock=clock,
            ).router(),
            SamplingRoutes(
                sampling=self.sampling, registry=registry, futures=self.futures, tasks=self.tasks
            ).router(),
            AccountRoutes(tokens=self.tokens, registry=registry).router(),
            self.downloads().router(),
            ImportRoutes(imports=self.imports, clock=clock).router(),
            CheckpointRoutes(checkpoints=self.checkpoints, registry=registry, base=base, clock=clock).router(),
        ]  # fmt: skip

    async def sweep(self) -> None:
        """Now and then: forget old results, unload models of clients that are gone, delete what has expired."""
        while True:
            self.futures.expire()
            seen_before = self.clock() - STALE_SESSION_S
            for session_id in await self.registry.everything.sessions.stale(self.models.sessions(), seen_before):
                self.models.end_session(session_id, f"its client was not heard of for {STALE_SESSION_S:.0f} s")
            await self.registry.everything.sessions.prune(self.clock() - _FORGOTTEN_S)
            await self.checkpoints.delete_expired()
            await asyncio.sleep(_SWEEP_S)


def _assemble(
    deps: ServerDeps,
    engine: Worker,
    sampler: Worker,
    registry: Registry,
    futures: Futures,
    tasks: Background,
    renderer: Renderer,
    metrics: Metrics,
) -> _Parts:
    admission = Admission(limits=deps.limits)
    _show_queues(metrics, admission)
    models = LiveModels(engine, registry, futures, tasks, admission)
    checkpoints = CheckpointStore(
        root=deps.data_dir / _CHECKPOINTS, registry=registry, models=models, engine=engine, clock=deps.clock,
        base_name=deps.base.public_name,
    )  # fmt: skip

    adapters = Adapters(sampler, tasks)
    metrics.add_gauge("metaclaw_adapters_loaded", "Adapters that the sampler holds.", lambda: adapters.num_loaded)
    sampling = Sampling(sampler, adapters, checkpoints, deps.base, admission)
    openai = OpenAIRoutes(sampling=sampling, renderer=renderer, clock=deps.clock)
    splices = openai.splices
    metrics.add_gauge("metaclaw_spliced", "Messages whose recorded tokens were spliced.", lambda: splices.num_spliced)
    metrics.add_gauge("metaclaw_splice_misses", "Those that were rendered instead.", lambda: splices.num_misses)
    return _Parts(
        clock=deps.clock, registry=registry, futures=futures, models=models, checkpoints=checkpoints,
        sampling=sampling, tasks=tasks, openai=openai, signer=Signer(deps.api_key), max_rank=deps.max_rank,
        imports=Imports(checkpoints=checkpoints, max_bytes=deps.max_import_bytes),
    )  # fmt: skip


def _show_queues(metrics: Metrics, admission: Admission) -> None:
    text = "of requests that were accepted and not answered yet."
    metrics.add_gauge("metaclaw_queued_sampling_tokens", f"Tokens {text}", lambda: admission.total("sampling").tokens)
    metrics.add_gauge("metaclaw_queued_training_tokens", f"Tokens {text}", lambda: admission.total("training").tokens)
    metrics.add_gauge("metaclaw_queued_training_bytes", f"Bytes {text}", lambda: admission.total("training").size_bytes)


def _metrics_router(metrics: Metrics) -> APIRouter:
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type=METRICS_TYPE)

    router = APIRouter()
    router.add_api_route("/metrics", show_metrics, methods=["GET"], response_model=None)
    return router


def _part(keyring: Keyring, dialect: Dialect, routers: list[APIRouter]) -> FastAPI:
    part = FastAPI(openapi_url=None, dependencies=[Depends(authorised(keyring))], exception_handlers=_handlers(dialect))
    for router in routers:
        part.include_router(router)
    return part


def _handlers(dialect: Dialect) -> dict[Any, Any]:
    async def bad_parameters(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        wrong = InvalidRequestError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
        return error_answer(wrong, dialect).response()

    return {**exception_handlers(dialect, hint), RequestValidationError: bad_parameters}


def _readiness(engine: Worker, sampler: Worker) -> JSONResponse:
    states = {worker.name: worker.state for worker in (engine, sampler)}
    if set(states.values()) == {"ready"}:
        return JSONResponse({"status": "ready", **states})
    order = ("failed", "stopped", "restarting", "loading")
    status = next(state for state in order if state in states.values())
    detail = "; ".join(f"{worker.name}: {worker.detail}" for worker in (engine, sampler) if worker.detail)
    return JSONResponse({"status": status, **states, "detail": detail}, status_code=503)
