"""Where each agent's turns go.

Owns the agents' modes and their own models, and that both may change while turns are running; refuses to know how a
turn is sent. Invariant: an agent with a model of its own is sent nowhere else, and the turns of one agent never depend
on another's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from metaclaw.config import Settings
from metaclaw.errors import ForbiddenError
from metaclaw.gateway.call_additions import CallAdditions
from metaclaw.gateway.policy import Policy
from metaclaw.gateway.routing import Router
from metaclaw.gateway.unwelcome import Unwelcome
from metaclaw.identity import DEFAULT_AGENT
from metaclaw.upstreams.credential import CredentialState
from metaclaw.upstreams.pool import UpstreamPool

OpenPool = Callable[[Settings, str | None], UpstreamPool | None]
"""The pool of the models of all, or that of the agent named: its own models alone."""


class RouterOf(Protocol):
    """The slice of ``AgentRouters`` that a turn uses."""

    def of(self, agent: str) -> Router: ...


class AgentRouters:
    """One router an agent that has settings of its own, and one for all others."""

    def __init__(self, settings: Settings, *, policy: Policy, open_pool: OpenPool) -> None:
        self._policy = policy
        self._open_pool = open_pool
        self._former: list[UpstreamPool] = []  # answers of theirs may still run
        self._settings = settings
        self._additions = CallAdditions()
        self._unwelcome = Unwelcome()
        self._shared = open_pool(settings, None)
        self._own = self._own_pools(settings, {})
        self._others, self._named = self._routers()

    @property
    def shared_models(self) -> UpstreamPool | None:
        """The models of all agents that have none of their own."""
        return self._shared

    def states(self) -> list[CredentialState]:
        """How every key fares, that of all agents' models first."""
        pools = [*([] if self._shared is None else [self._shared]), *self._own.values()]
        return [state for pool in pools for state in pool.snapshot()]

    def of(self, agent: str) -> Router:
        """The router for the turns of ``agent``."""
        return self._named.get(agent, self._others)

    def require_known(self, agent: str) -> None:
        """Raise ``ForbiddenError`` for an agent that is not listed, where only listed ones are served."""
        agents = self._settings.agents
        if not agents.allow_unknown and agent != DEFAULT_AGENT and agent not in agents.named:
            raise ForbiddenError(
                f"no agent {agent!r} is listed under agents in config.yaml, and agents.allow_unknown is off: "
                "add it there, or correct the agent id of the client"
            )

    def adopt(self, settings: Settings) -> None:
        """Serve by other modes, models and agents from the next turn on, or raise ``ConfigError``, unchanged."""
        before = self._settings
        # Also of agents' own: how often is tried is said of all, and so is what OpenRouter is told.
        is_same = (before.llm, before.openrouter) == (settings.llm, settings.openrouter)
        kept = {agent: pool for agent, pool in self._own.items() if is_same and self._is_same_model(agent, settings)}
        shared = self._shared if is_same and self._shared else self._open_pool(settings, None)
        own = self._own_pools(settings, kept)
        self._former += [pool for agent, pool in self._own.items() if agent not in kept]
        if self._shared is not None and shared is not self._shared:
            self._former.append(self._shared)
        self._settings, self._own, self._shared = settings, own, shared
        self._others, self._named = self._routers()

    async def close(self) -> None:
        """Let go of every model."""
        await self._policy.close()
        for pool in [*self._former, *self._own.values(), *([self._shared] if self._shared else [])]:
            await pool.close()

    def _is_same_model(self, agent: str, settings: Settings) -> bool:
        return self._settings.agents.of(agent).llm == settings.agents.of(agent).llm

    def _own_pools(self, settings: Settings, kept: Mapping[str, UpstreamPool]) -> Mapping[str, UpstreamPool]:
        pools = dict[str, UpstreamPool]()
        for agent, own in settings.agents.named.items():
            if own.has_own_model and (pool := kept.get(agent) or self._open_pool(settings, agent)):
                pools[agent] = pool
        return pools

    def _routers(self) -> tuple[Router, Mapping[str, Router]]:
        def router(agent: str | None) -> Router:
            mode = self._settings.mode if agent is None else self._settings.mode_of(agent)
            policy = None if mode == "skills_only" else self._policy
            models = self._own.get(agent or "", self._shared)
            return Router(policy=policy, models=models, additions=self._additions, unwelcome=self._unwelcome)

        return router(None), {agent: router(agent) for agent in self._settings.agents.named}
