"""Who comes in, before it is known what for.

Owns the token, the body within its limits, and the agent of a request without one; refuses to know turns. Invariant:
nothing of a body is read before the token was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from metaclaw.gateway.access import Principal
from metaclaw.gateway.claims import require_own_agent
from metaclaw.http.body import read_body_within
from metaclaw.identity import DEFAULT_AGENT, agent_id


class Authenticates(Protocol):
    """Who knows the tokens."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where requests come in."""

    access: Authenticates
    max_body_bytes: int
    body_timeout_s: float
    clock: Callable[[], float]
    require_known: Callable[[str], None]

    async def authenticate(self, request: Request) -> Principal:
        """Whose token it is. Raises ``AuthenticationError``."""
        return await self.access.authenticate(request.headers)

    async def body(self, request: Request) -> bytes:
        """The body, within the limits of size and time."""
        return await read_body_within(
            request.receive, request.headers, max_bytes=self.max_body_bytes, timeout_s=self.body_timeout_s
        )

    async def agent(self, request: Request) -> str:
        """The agent of a request without a body. Raises what a turn raises."""
        return await self.named_agent(request) or self._known(DEFAULT_AGENT)

    async def named_agent(self, request: Request) -> str | None:
        """The agent that the token is bound to, or that the request names, or ``None``. Raises as ``agent``."""
        principal = await self.authenticate(request)
        given = (request.headers.get("x-agent-id"), request.path_params.get("agent"))
        said = [agent_id(agent) for agent in given if agent]
        if principal.agent is not None:
            require_own_agent(principal.agent, said)
        agent = principal.agent or next(iter(said), None)
        return None if agent is None else self._known(agent)

    def _known(self, agent: str) -> str:
        self.require_known(agent)
        return agent
