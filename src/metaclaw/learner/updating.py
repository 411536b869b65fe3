"""The job that trains when enough was judged.

Owns when an agent's update is attempted; refuses to know how one is made. Invariant: a trainer that fails one agent
delays that agent's updates and nothing else, and is asked again after a pause that grows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from typing import Protocol

from metaclaw.errors import BackendError, ConflictError
from metaclaw.journal.learning import Clock, LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.learner.jobs import Patience
from metaclaw.learner.outcomes import Outcome, Waiting

_log = logging.getLogger(__name__)


class Training(Protocol):
    """The slice of an ``Updater`` that is used."""

    async def attempt(self, agent: str) -> Outcome: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePace:
    """How often is looked and tried."""

    poll_s: float = 1.0
    patience: Patience = field(default_factory=Patience)


class Updating:
    """Attempts an update of each agent that has samples."""

    name = "training"

    def __init__(
        self,
        *,
        journal: LearningJournal,
        training: Training,
        pace: UpdatePace | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._journal = journal
        self._training = training
        self._pace = pace or UpdatePace()
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}
        self._said: dict[str, str] = {}

    @property
    def poll_s(self) -> float:
        return self._pace.poll_s

    async def step(self) -> bool:
        """Attempt an update of each agent; return whether one was made."""
        worked = False
        for agent in await asyncio.to_thread(self._journal.agents_with_pending):
            if self._clock() >= self._pauses.get(agent, _NO_PAUSE).until:
                worked |= await self._train_one(agent)
        return worked

    async def _train_one(self, agent: str) -> bool:
        try:
            outcome = await self._training.attempt(agent)
        except (BackendError, ConflictError) as error:
            pause = self._pauses.get(agent, _NO_PAUSE).longer(self._clock(), self._pace.patience)
            self._pauses[agent] = pause
            _log.warning("%s: no update, next attempt in %g s: %s", agent, pause.length_s, error)
            return False
        self._pauses.pop(agent, None)
        if isinstance(outcome, Waiting) and self._said.get(agent) != outcome.reason:
            self._said[agent] = outcome.reason
            _log.info("%s: the next update waits: %s", agent, outcome.reason)
        return isinstance(outcome, Version)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """How long an agent's training rests after failures in a row."""

    until: float = 0.0
    length_s: float = 0.0

    def longer(self, now: float, patience: Patience) -> _Pause:
        length_s = patience.longer(self.length_s)
        return replace(self, until=now + length_s, length_s=length_s)


_NO_PAUSE = _Pause()
