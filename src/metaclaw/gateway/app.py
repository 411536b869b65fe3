"""The gateway as an ASGI application.

Owns routes, authentication, and the lifetime of what they stand on; refuses to know how a turn is answered. Invariant:
nothing but ``/healthz`` answers without the token, and what was opened at the start is closed at the end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import cast

from aiohttp import ClientSession
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metaclaw.chat.dialects import ANTHROPIC, DIALECTS
from metaclaw.config import LimitSettings, Settings, is_loopback
from metaclaw.errors import NotFoundError
from metaclaw.extras import load_backend
from metaclaw.gateway.access import Access
from metaclaw.gateway.access_keeper import AccessKeeper
from metaclaw.gateway.agent_budgets import AgentBudgets
from metaclaw.gateway.agent_routers import AgentRouters
from metaclaw.gateway.conversations import Conversations
from metaclaw.gateway.costs import cost_of
from metaclaw.gateway.feedback import take_feedback
from metaclaw.gateway.front import Front, turn_path
from metaclaw.gateway.memory_desk import MemoryDesk
from metaclaw.gateway.memory_process import token_of
from metaclaw.gateway.memory_routes import memory_routes
from metaclaw.gateway.metrics import CONTENT_TYPE, GatewayMetrics, count_request
from metaclaw.gateway.models import in_anthropics_shape, list_models, named
from metaclaw.gateway.open_turns import OpenTurns
from metaclaw.gateway.paths import error_dialect, hint
from metaclaw.gateway.policy import Policy
from metaclaw.gateway.policy_history import PolicyHistory
from metaclaw.gateway.proxy import Proxy
from metaclaw.gateway.pruning import Pruning
from metaclaw.gateway.reception import Reception
from metaclaw.gateway.recording import Recorder
from metaclaw.gateway.recording_path import RecordingPath
from metaclaw.gateway.session_ends import SessionEnds, judging_asked_of, reading_asked_of
from metaclaw.gateway.token_counts import count_tokens
from metaclaw.gateway.train_step import TrainingDesk, train_step
from metaclaw.gateway.upstream_states import upstream_states
from metaclaw.http.body import parse_json_object
from metaclaw.http.counting import CountRequests
from metaclaw.http.errors import exception_handlers
from metaclaw.http.hosts import KnownHosts
from metaclaw.journal.access_store import Limits
from metaclaw.journal.drawn_answers import DrawnAnswersReader
from metaclaw.journal.past_turns import PastTurnReader
from metaclaw.journal.serving import ServingReader
from metaclaw.journal.turns import TurnJournal
from metaclaw.memory.asking import Asking
from metaclaw.memory.service import MemoryService
from metaclaw.recall.composing import Budget
from metaclaw.recall.forgetting import keep_erased
from metaclaw.recall.memories import StoredMemories
from metaclaw.recall.policy_tokens import PolicyTokens
from metaclaw.recall.recaller import Recaller
from metaclaw.recall.remote_memories import RemoteMemories
from metaclaw.recall.skills import LibrarySkills, SkillRanker
from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.configured import open_embedder
from metaclaw.skills.experiments import Experiments
from metaclaw.skills.layout import STARTER_FOLDER
from metaclaw.skills.library import SkillLibrary
from metaclaw.upstreams.configured import open_pool, training_server
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.prices import load_prices
from metaclaw.upstreams.session import new_session

_DRAIN_S = 2.0
_PREFIXES = ("", "/agents/{agent}")
_ANY = ("GET", "POST", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What the routes stand on."""

    reception: Reception
    proxy: Proxy
    routers: AgentRouters
    recorder: Recorder
    metrics: GatewayMetrics
    memory: MemoryDesk | None
    sidecar: MemoryService | None
    training: TrainingDesk
    pruning: Pruning
    library: SkillLibrary | None
    loop: asyncio.AbstractEventLoop

    async def adopt(self, settings: Settings) -> None:
        """Go by other modes, models and agents' settings from the next turn on, or raise ``ConfigError``, unchanged."""
        self.routers.adopt(settings)
        self.pruning.adopt(settings)
        if self.library is not None:
            self.library.look_into(settings.own_skills_dirs)
        self.reception.budgets.adopt(_agents_limits(settings))
        self.training.settings = settings


@asynccontextmanager
async def open_deps(settings: Settings, clock: Callable[[], float] = time.time) -> AsyncGenerator[Deps]:
    """Open the journal, the skills and the upstreams that ``settings`` name. Raises ``JournalError``."""
    async with AsyncExitStack() as stack:
        # First, so that it is closed last: what turns cost is known when the journal has written them.
        keeper = await stack.enter_async_context(AccessKeeper(settings.access_db))
        prices = await asyncio.to_thread(load_prices, settings.home)
        journal = await stack.enter_async_context(TurnJournal(settings.turns_db, pricer=partial(cost_of, prices)))
        session = await stack.enter_async_context(new_session())
        embedder = await asyncio.to_thread(open_embedder, settings.embeddings, session)
        past = await stack.enter_async_context(aclosing(PastTurnReader(settings.turns_db)))
        pruning = Pruning(journal, settings, clock)
        stack.callback(pruning.close)
        sidecar = _sidecar(settings, session)
        min_score = settings.recall.min_memory_score
        if sidecar is not None:
            memories = RemoteMemories(sidecar, min_score=min_score)
        else:
            memories = StoredMemories(settings.memory_db, min_score=min_score, asking=_asking(settings, embedder))
            stack.push_async_callback(memories.close)
        erasing = asyncio.create_task(keep_erased(journal, memories))
        stack.callback(erasing.cancel)
        path = RecordingPath()
        routers = _routers(settings, session, journal, path, stack)
        stack.push_async_callback(routers.close)
        reception = _reception(settings, keeper, Conversations(past), clock, routers)
        recorder = Recorder(journal, path, clock)
        recorder.on_ended.append(reception.turns.end)
        recorder.on_settled.append(reception.turns.charge)
        recorder.on_unwritten.append(reception.turns.charge)
        memory = MemoryDesk(settings.memory_db, _asking(settings, embedder)) if settings.memory.enabled else None
        if memory is not None:
            stack.push_async_callback(memory.close)
        asks = [judging_asked_of(settings.requests_db, clock)]
        ends = SessionEnds(path, asks if memory is None else [*asks, reading_asked_of(memory, sidecar, clock)])
        stack.callback(ends.close)
        recorder.on_opened.append(ends.opened)
        recorder.on_settled.append(ends.settled)
        meanings = _meanings(settings, embedder)
        if meanings is not None:
            stack.push_async_callback(meanings.close)
        library = _library(settings, stack)
        measuring = _measuring(settings, session, routers)
        proxy = Proxy(
            routers=routers,
            recaller=_recaller(settings, journal, memories, library, meanings, measuring),
            recorder=recorder,
            max_context_tokens=settings.max_context_tokens,
        )
        yield Deps(
            reception=reception,
            proxy=proxy,
            routers=routers,
            recorder=recorder,
            metrics=GatewayMetrics(
                recorder, lambda: routers.shared_models, embedder, memories=memories, learning_db=settings.learning_db
            ),
            memory=memory,
            sidecar=sidecar,
            training=TrainingDesk(settings=settings, clock=clock),
            pruning=pruning,
            library=library,
            loop=asyncio.get_running_loop(),
        )
        await recorder.drain(_DRAIN_S)


def known_hosts(settings: Settings) -> Collection[str] | None:
    """The names beside those of this machine that requests may come for; ``None`` for all."""
    proxy = settings.proxy
    if not is_loopback(proxy.host) and not proxy.allowed_hosts:
        return None  # it is meant for other machines, and which names they know it by nobody has said
    return frozenset(name.lower() for name in proxy.allowed_hosts)


def make_app(deps: Callable[[], AbstractAsyncContextManager[Deps]], *, hosts: Collection[str] | None = None) -> Front:
    """The application; ``deps`` is opened when it starts and closed when it ends. ``hosts`` as of ``known_hosts``."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with deps() as opened:
            app.state.deps = opened
            yield

    turns = [turn_path(dialect) for dialect in DIALECTS.values()]
    routes = [
        *(Route(f"{prefix}{turn.path}", turn, methods=["POST"]) for turn in turns for prefix in _PREFIXES),
        *(Route(f"{prefix}/v1/messages/count_tokens", _token_count, methods=["POST"]) for prefix in _PREFIXES),
        *(Route(f"{prefix}/v1/models", _models, methods=["GET"]) for prefix in _PREFIXES),
        *(Route(f"{prefix}/v1/models/{{model:path}}", _models, methods=["GET"]) for prefix in _PREFIXES),
        *(Route(f"{prefix}/v1/responses/{{rest:path}}", _kept_response, methods=_ANY) for prefix in _PREFIXES),
        *memory_routes(_PREFIXES),
        *(Route(f"{prefix}/v1/feedback", _feedback, methods=["POST"]) for prefix in _PREFIXES),
        Route("/v1/admin/train_step", train_step, methods=["POST"]),
        Route("/v1/admin/upstreams", upstream_states, methods=["GET"]),
        Route("/metrics", _metrics, methods=["GET"]),
        Route("/healthz", _healthz, methods=["GET"]),
    ]
    patterns = {route.endpoint: route.path for route in reversed(routes)}
    others = Starlette(
        routes=routes,
        middleware=[
            Middleware(CountRequests, told=count_request(patterns)),
            *([] if hosts is None else [Middleware(KnownHosts, allowed=hosts, dialect=error_dialect)]),
        ],
        exception_handlers=exception_handlers(error_dialect, hint),
        lifespan=lifespan,
    )
    return Front(others, turns, hosts=hosts)


async def _token_count(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    async with deps.reception.question(request) as agent:
        parsed = ANTHROPIC.parse(parse_json_object(await deps.reception.body(request)))
        router = deps.routers.of(agent)
        return await count_tokens(router, parsed, headers=request.headers, receive=request.receive)


async def _models(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    agent = await deps.reception.agent(request)
    router = deps.routers.of(agent)
    listed = await list_models(agent, policy=router.policy, models=router.models)
    shown = in_anthropics_shape(listed) if "anthropic-version" in request.headers else listed
    model = request.path_params.get("model")
    told = shown if model is None else named(model, shown)
    return Response(json.dumps(told), media_type="application/json")  # a name may hold what UTF-8 cannot


async def _feedback(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    agent = await deps.reception.named_agent(request)
    body = parse_json_object(await deps.reception.body(request))
    return JSONResponse(await take_feedback(body, deps.recorder, only_agent=agent))


async def _metrics(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    await deps.reception.authenticate(request)
    page = await asyncio.to_thread(deps.metrics.text)  # files are read for it
    return Response(page, media_type=CONTENT_TYPE)


async def _kept_response(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    await deps.reception.authenticate(request)
    rest = request.path_params["rest"]
    if rest in ("input_tokens", "compact"):
        raise NotFoundError(f"there is no /v1/responses/{rest} here: ask without it, with the whole history in 'input'")
    raise NotFoundError(
        "responses are not kept here, so none can be read, cancelled or deleted:"
        " send the whole history in 'input' of POST /v1/responses"
    )


async def _healthz(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    return JSONResponse({"status": "ok", **deps.recorder.health()})


def _reception(
    settings: Settings,
    keeper: AccessKeeper,
    conversations: Conversations,
    clock: Callable[[], float],
    routers: AgentRouters,
) -> Reception:
    proxy = settings.proxy
    owner_limits = _limits(proxy.limits)
    access = Access(owner_token=proxy.api_key.get_secret_value(), owner_limits=owner_limits, keeper=keeper, clock=clock)
    return Reception(
        access=access,
        conversations=conversations,
        turns=OpenTurns(conversations),
        max_body_bytes=proxy.max_body_bytes,
        body_timeout_s=proxy.body_timeout_s,
        clock=clock,
        require_known=routers.require_known,
        budgets=AgentBudgets(_agents_limits(settings), keeper=keeper, clock=clock),
    )


def _limits(limits: LimitSettings) -> Limits:
    return Limits(
        requests_per_minute=limits.requests_per_minute or None,
        tokens_per_day=limits.tokens_per_day or None,
        usd_per_month=limits.usd_per_month or None,
        max_concurrent=limits.max_concurrent or None,
    )


def _agents_limits(settings: Settings) -> Mapping[str, Limits]:
    limits = {agent: _limits(own.limits) for agent, own in settings.agents.named.items()}
    return {agent: held_to for agent, held_to in limits.items() if held_to != Limits()}


def _routers(
    settings: Settings, session: ClientSession, journal: TurnJournal, path: RecordingPath, stack: AsyncExitStack
) -> AgentRouters:
    # There is a policy in every mode: an agent may be given to it while we run.
    serving = stack.enter_context(closing(ServingReader(settings.learning_db)))
    drawn = stack.enter_context(closing(DrawnAnswersReader(settings.turns_db)))
    upstream = HttpModel(session, training_server(settings))
    return AgentRouters(
        settings,
        policy=Policy(upstream, serving, journal, path, PolicyHistory(drawn), settings.rl),
        open_pool=lambda settings, agent: open_pool(settings, session, agent=agent),
    )


def _asking(settings: Settings, embedder: Breaker | None) -> Asking | None:
    return None if embedder is None else Asking(embedder, min_likeness=settings.embeddings.min_likeness)


def _sidecar(settings: Settings, session: ClientSession) -> MemoryService | None:
    memory = settings.memory
    if not memory.sidecar_url or not memory.enabled:
        return None
    return MemoryService(session, memory.sidecar_url, token_of(settings), timeout_s=memory.sidecar_timeout_s)


def _meanings(settings: Settings, embedder: Breaker | None) -> SkillRanker | None:
    if embedder is None or settings.skills.retrieval == "lexical":
        return None
    module = load_backend("metaclaw.skills.meaning", extra="evolve")
    folder, min_likeness = settings.home / "cache", settings.embeddings.min_likeness
    return cast(SkillRanker, module.SkillMeanings(embedder, folder, min_likeness=min_likeness))


def _measuring(settings: Settings, session: ClientSession, routers: AgentRouters) -> PolicyTokens:
    server = HttpModel(session, training_server(settings))
    return PolicyTokens(server, lambda agent: routers.of(agent).policy is not None)


def _library(settings: Settings, stack: AsyncExitStack) -> SkillLibrary | None:
    """What skills are recalled from, looked at as long as ``stack`` is open; ``None`` where none are."""
    skills = settings.skills
    if not skills.enabled or skills.top_k == 0 or settings.recall.max_tokens == 0:
        return None
    starter = STARTER_FOLDER if skills.starter else None
    library = SkillLibrary(settings.skills_dir, starter=starter, own=settings.own_skills_dirs)
    looking = asyncio.create_task(library.keep_fresh())
    stack.callback(looking.cancel)
    return library


def _recaller(
    settings: Settings,
    journal: TurnJournal,
    stored: StoredMemories | RemoteMemories,
    library: SkillLibrary | None,
    meanings: SkillRanker | None,
    measuring: PolicyTokens,
) -> Recaller | None:
    skills, recall = settings.skills, settings.recall
    memories = stored if settings.memory.enabled and recall.max_memories else None
    budget = Budget(
        max_tokens=recall.max_tokens,
        max_skills=skills.top_k,
        max_memories=recall.max_memories,
        max_standing=recall.max_standing,
        skills_share=recall.skills_share,
    )
    if recall.max_tokens == 0 or not (library or memories):
        return None
    source = LibrarySkills(library, meanings, Experiments(settings.learning_db)) if library is not None else None
    return Recaller(journal, skills=source, memories=memories, budget=budget, measuring=measuring)
