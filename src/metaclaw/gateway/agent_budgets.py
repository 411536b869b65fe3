"""What each agent may use, whoever asks for it.

Owns one meter an agent with limits of its own; refuses to know tokens, which have theirs (``access``). Invariant: an
agent without limits costs nothing here, and what was used stays counted when the limits change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metaclaw.gateway.access import Admission
from metaclaw.gateway.access_keeper import AccessKeeper
from metaclaw.gateway.limits import Meter
from metaclaw.journal.access_store import Limits

_PREFIX = "agent:"  # of the name in access.db; a token's id begins with tok-


class AgentBudgets:
    """Asked at each turn, on the event loop."""

    def __init__(self, limits: Mapping[str, Limits], *, keeper: AccessKeeper, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._keeper = keeper
        self._clock = clock
        self._meters: dict[str, Meter] = {}

    def adopt(self, limits: Mapping[str, Limits]) -> None:
        """Hold the agents to other limits from the next turn on."""
        self._limits = limits
        for agent, meter in self._meters.items():
            meter.limits = limits.get(agent, Limits())

    def admit(self, agent: str) -> Admission | None:
        """Count a turn of ``agent`` in; ``None`` if it has no limits. Raises ``RateLimitError`` or ``BudgetError``."""
        if agent not in self._limits:
            return None
        name = f"{_PREFIX}{agent}"
        meter = self._meters.get(agent)
        if meter is None:
            used = self._keeper.used.get(name)
            meter = self._meters[agent] = Meter(self._limits[agent], used, whose=f"the agent {agent!r}")
        meter.admit(self._clock())
        self._keeper.keep(name, meter.usage)

        def charge(tokens: int, usd: float) -> None:
            meter.charge(self._clock(), tokens=tokens, usd=usd)
            self._keeper.keep(name, meter.usage)

        return Admission(meter.release, charge)
