"""Tinker: start-up, sessions and heartbeats.

Owns what a client learns of the server before it works, and whether it is alive; refuses to know models and
samples. Invariant: telemetry is accepted and dropped unread, because the SDK puts the caller's key into it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from metaclaw.errors import NotFoundError
from metaclaw.training.api import wire
from metaclaw.training.api.models import LiveModels
from metaclaw.training.api.records import Session
from metaclaw.training.api.registry import Registry, View
from metaclaw.training.api.requests import body_of, page_of, tenant_of
from metaclaw.training.api.sampling import Sampling

_READY_S = 30.0
_FIRST_OF_NOW = [0, 25]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRoutes:
    """Handlers under ``/api/v1``."""

    registry: Registry
    models: LiveModels
    sampling: Sampling
    clock: Callable[[], float]

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/client/config", self.client_config, methods=["POST"])
        router.add_api_route("/client/dynamic_config", self.dynamic_config, methods=["POST"])
        router.add_api_route("/telemetry", self.telemetry, methods=["POST"])
        router.add_api_route("/get_server_capabilities", self.capabilities, methods=["GET"])
        router.add_api_route("/create_session", self.create_session, methods=["POST"])
        router.add_api_route("/session_heartbeat", self.heartbeat, methods=["POST"])
        router.add_api_route("/sessions/{session_id}/finish", self.finish, methods=["POST"])
        router.add_api_route("/sessions/{session_id}", self.session, methods=["GET"])
        router.add_api_route("/sessions", self.sessions, methods=["GET"])
        return router

    async def client_config(self, request: Request, response: Response) -> wire.ClientConfig:
        body = await body_of(request)
        asked = wire.parse(wire.ClientConfigRequest, body) if body else wire.ClientConfigRequest()
        # The SDK makes a connection pool for this one call and never closes it.
        response.headers["connection"] = "close"
        is_old = _is_old(asked.sdk_version)
        return wire.ClientConfig(
            # MinT's SDK is built on 0.22, which takes its keys ("sk-...") only where they are exchanged for tokens.
            pjwt_auth_enabled=is_old,
            # There it follows the redirect of a download by itself, and the SDK never sees the address it asked for.
            use_pyqwest_transport=not is_old,
            sample_max_concurrent_requests=self.sampling.max_open,
        )

    async def dynamic_config(self) -> wire.DynamicConfig:
        return wire.DynamicConfig()

    async def telemetry(self) -> wire.TelemetryAccepted:
        return wire.TelemetryAccepted()

    async def capabilities(self) -> wire.Capabilities:
        ready = await self.sampling.ready(_READY_S)
        base = self.sampling.base
        model = wire.SupportedModel(
            model_name=base.name, max_context_length=ready.max_context, num_parameters=base.num_parameters
        )
        return wire.Capabilities(supported_models=[model])

    async def create_session(self, request: Request) -> wire.SessionCreated:
        asked = wire.parse(wire.CreateSession, await body_of(request))
        now = self.clock()
        session = Session(
            session_id=str(uuid.uuid4()), created_at=now, seen_at=now, finished_at=None,
            display_name=asked.display_name, metadata=asked.user_metadata or {}, owner=tenant_of(request).key_id,
        )  # fmt: skip
        await self._mine(request).sessions.add(session)
        return wire.SessionCreated(session_id=session.session_id)

    async def heartbeat(self, request: Request) -> wire.HeartbeatSeen:
        asked = wire.parse(wire.Heartbeat, await body_of(request))
        try:
            await self._mine(request).sessions.get(asked.session_id)
        except NotFoundError as error:
            raise HTTPException(410, str(error)) from error  # the status on which the SDK's heart stops
        await self._mine(request).sessions.seen(asked.session_id, self.clock())
        return wire.HeartbeatSeen()

    async def finish(self, session_id: str, request: Request) -> wire.Nothing:
        sessions = self._mine(request).sessions
        await sessions.get(session_id)
        await sessions.finish(session_id, self.clock())
        self.models.end_session(session_id, "its session was finished by the client")
        return wire.Nothing()

    async def session(self, session_id: str, request: Request) -> wire.SessionInfo:
        mine = self._mine(request)
        session = await mine.sessions.get(session_id)
        runs = await mine.runs.of_session(session_id)
        samplers = await mine.sampling_sessions.of_session(session_id)
        return wire.SessionInfo(
            training_run_ids=[run.model_id for run in runs],
            sampler_ids=[sampler.sampling_session_id for sampler in samplers],
            user_metadata=session.metadata,
            display_name=session.display_name,
        )

    async def sessions(self, request: Request, limit: int = 20, offset: int = 0) -> wire.SessionIds:
        sessions = await self._mine(request).sessions.latest(*page_of(limit, offset))
        return wire.SessionIds(sessions=[session.session_id for session in sessions])

    def _mine(self, request: Request) -> View:
        return self.registry.for_(tenant_of(request))


def _is_old(sdk_version: str) -> bool:
    numbers = [int(part) for part in sdk_version.split(".")[:2] if part.isdecimal()]
    return len(numbers) == 2 and numbers < _FIRST_OF_NOW
