"""Tinker: exchanging a key for a token, finding sessions, and what this server does not do.

Owns answers around the account; refuses to know models and samples. Invariant: what is not served says why, in a
sentence, with a status that no SDK retries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request

from metaclaw.errors import InvalidRequestError
from metaclaw.training.api import wire
from metaclaw.training.api.access_tokens import AccessTokens
from metaclaw.training.api.records import Session
from metaclaw.training.api.registry import Registry, View
from metaclaw.training.api.requests import body_of, tenant_of

# What a client may ask for and does not get; the flags of client/config lead no SDK to these.
_UNSERVED = {
    ("POST", "/retrieve_futures"): "results are fetched one by one here: use retrieve_future (the flag "
    "sample_use_retrieve_futures of client/config is off)",
    ("POST", "/create_custom_loss"): "losses of your own are computed in your program here: forward_backward_custom "
    "does so while the flag custom_loss_server_side of client/config is off",
    (
        "POST",
        "/copy_weights",
    ): "weights are not copied here: publish a checkpoint to let other keys read it, or "
    "train on from it with create_training_client_from_state",
    ("POST", "/join_sampling_session"): "sampling sessions are shared without joining here (the flag "
    "sample_join_sampling_session of client/config is off)",
    ("PUT", "/sessions/{session_id}/project"): "this server has no projects; every session belongs to its key",
    ("GET", "/sessions/{session_id}/trace_export"): "this server records no traces",
    ("GET", "/audit"): "this server keeps no audit log",
    ("GET", "/billing/usage/events"): "this server bills nobody",
    ("GET", "/billing/usage/checkpoints/current"): "this server bills nobody; GET checkpoints lists size_bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRoutes:
    """Handlers under ``/api/v1``."""

    tokens: AccessTokens
    registry: Registry

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/auth/token", self.token, methods=["POST"])
        router.add_api_route("/sessions/search", self.search, methods=["POST"])
        for (method, path), reason in _UNSERVED.items():
            router.add_api_route(path, _refusing(reason), methods=[method])
        return router

    async def token(self, request: Request) -> wire.AccessToken:
        """For SDKs that send their key once and then a token."""
        return wire.AccessToken(jwt=self.tokens.issue(tenant_of(request).key_id))

    async def search(self, request: Request) -> wire.FoundSessions:
        """Sessions by id, words of the name, or metadata, the newest first."""
        asked = wire.parse(wire.SearchSessions, await body_of(request))
        if asked.project_ids:
            raise InvalidRequestError("this server has no projects; leave project_ids out", param="project_ids")
        mine = self.registry.for_(tenant_of(request))
        found = [session for session in await mine.sessions.latest(-1, 0) if _matches(session, asked)]
        page = found[: asked.limit]
        summaries = [await self._summary(mine, session) for session in page]
        following = page[-1] if len(found) > len(page) else None
        return wire.FoundSessions(
            sessions=summaries,
            next_cursor=following
            and wire.SearchCursor(last_created_at=_time(following), last_session_id=following.session_id),
        )

    async def _summary(self, mine: View, session: Session) -> wire.SessionSummary:
        num_checkpoints, size_bytes = 0, 0
        for run in await mine.runs.of_session(session.session_id):
            saved, _ = await mine.checkpoints.latest(model_id=run.model_id)
            num_checkpoints += len(saved)
            size_bytes += sum(checkpoint.size_bytes for checkpoint in saved)
        return wire.SessionSummary(
            session_id=session.session_id,
            created_at=_time(session),
            checkpoints_count=num_checkpoints,
            checkpoint_storage_bytes=size_bytes,
            display_name=session.display_name,
            user_metadata={key: str(value) for key, value in session.metadata.items()},
        )


def _time(session: Session) -> datetime:
    # What a cursor carries, so that it is compared with itself: microseconds, not all of a float.
    return datetime.fromtimestamp(session.created_at, UTC)


def _matches(session: Session, asked: wire.SearchSessions) -> bool:
    if asked.cursor is not None:
        last = (asked.cursor.last_created_at, asked.cursor.last_session_id)
        if (_time(session), session.session_id) >= last:
            return False
    if any(str(session.metadata.get(key)) != value for key, value in asked.user_metadata.items()):
        return False
    if asked.session_id is None and asked.display_name is None:
        return True
    words = (asked.display_name or "").casefold().split()
    name = (session.display_name or "").casefold()
    return session.session_id == asked.session_id or bool(words and all(word in name for word in words))


def _refusing(reason: str) -> Callable[[], Awaitable[wire.Nothing]]:
    async def refuse() -> wire.Nothing:
        raise InvalidRequestError(reason)

    return refuse
