"""The job that trains when enough was judged.

Owns when an agent's update is attempted; refuses to know how one is made, and what a window is. Invariant: a trainer
that fails one agent delays that agent's updates and nothing else, and is asked again after a pause that grows; what
somebody asks for is attempted at once, and answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from metaclaw.errors import MetaClawError
from metaclaw.journal.learning import Clock, LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.journal.train_steps import EVERY_AGENT, TrainAnswer, TrainSteps
from metaclaw.learner.gate.examination import GateWaitsError
from metaclaw.learner.jobs import Patience
from metaclaw.learner.outcomes import Outcome, Rejected, Waiting

_log = logging.getLogger(__name__)

# Of several agents that were tried, whose answer stands for all: a version, then what somebody should know of.
_BEST_FIRST = ("ok", "error", "refused", "skipped")


class Training(Protocol):
    """The slice of an ``Updater`` that is used."""

    async def attempt(self, agent: str) -> Outcome: ...


class Permission(Protocol):
    """When updates may run."""

    async def is_open(self) -> bool:
        """Whether one may begin now."""
        ...

    async def run(self, agent: str, work: Coroutine[Any, Any, Outcome], *, is_asked: bool = False) -> Outcome:
        """Do ``work``, or stop it and return ``Waiting`` when it may not go on."""
        ...


class AnyTime:
    """Updates may run whenever there is something to train on."""

    async def is_open(self) -> bool:
        return True

    async def run(self, agent: str, work: Coroutine[Any, Any, Outcome], *, is_asked: bool = False) -> Outcome:
        return await work


class WhenAsked(AnyTime):
    """No update begins by itself; one that was asked for runs to its end."""

    async def is_open(self) -> bool:
        return False


# When updates of which agent may run; ``None`` for one that is not trained.
PermissionOf = Callable[[str], Permission | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePace:
    """How often is looked and tried."""

    poll_s: float = 1.0
    patience: Patience = field(default_factory=Patience)


class Updating:
    """Attempts an update of each agent that has samples, and of those that somebody asks for.

    ``permission`` is for all agents, ``permission_of`` for each of them.
    """

    name = "training"

    def __init__(
        self,
        *,
        journal: LearningJournal,
        training: Training,
        permission: Permission | None = None,
        permission_of: PermissionOf | None = None,
        asked: TrainSteps | None = None,
        pace: UpdatePace | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._journal = journal
        self._training = training
        self._permission_of: PermissionOf = permission_of or partial(_for_all, permission or AnyTime())
        self._asked = asked
        self._pace = pace or UpdatePace()
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}
        self._said: dict[str, str] = {}

    @property
    def poll_s(self) -> float:
        return self._pace.poll_s

    async def step(self) -> bool:
        """Attempt an update of each agent; return whether one was made."""
        worked = await self._do_asked()
        for agent in await asyncio.to_thread(self._journal.agents_with_pending):
            if self._pauses.get(agent, _NO_PAUSE).is_on(self._clock()):
                continue
            permission = self._permission_of(agent)
            if permission is None or not await permission.is_open():
                continue
            worked |= await self._train_one(agent, permission)
            worked |= await self._do_asked()
        return worked

    async def _train_one(self, agent: str, permission: Permission) -> bool:
        length_s = self._pace.patience.longer(self._pauses.get(agent, _NO_PAUSE).length_s)
        # Also where it ends in a way that nobody foresaw, which ends this step: others have their turn first.
        self._pauses[agent] = _Pause(since=self._clock(), length_s=length_s)
        try:
            outcome = await permission.run(agent, self._training.attempt(agent))
        except MetaClawError as error:
            length_s = max(length_s, error.rest_s if isinstance(error, GateWaitsError) else 0.0)
            self._pauses[agent] = _Pause(since=self._clock(), length_s=length_s)
            _log.warning("%s: no update, next attempt in %g s: %s", agent, length_s, error)
            return False
        self._pauses.pop(agent, None)
        if isinstance(outcome, Waiting) and self._said.get(agent) != outcome.reason:
            self._said[agent] = outcome.reason
            _log.info("%s: the next update waits: %s", agent, outcome.reason)
        return isinstance(outcome, Version)

    async def _do_asked(self) -> bool:
        if self._asked is None:
            return False
        requests = await asyncio.to_thread(self._asked.waiting, self._clock())
        for request in requests:
            answer = await self._answer(request.agent)
            await asyncio.to_thread(self._asked.answer, request.id, answer, self._clock())
        return bool(requests)

    async def _answer(self, asked: str) -> TrainAnswer:
        agents = [asked]
        if asked == EVERY_AGENT:
            pending = await asyncio.to_thread(self._journal.agents_with_pending)
            agents = [agent for agent in pending if self._permission_of(agent) is not None]
        answers = [await self._train_asked(agent) for agent in agents]
        if not answers:
            return TrainAnswer(
                status="skipped", agent=asked, reason="nothing was judged that is not trained on already"
            )
        first = min(answers, key=lambda answer: _BEST_FIRST.index(answer.status))
        if len(answers) == 1:
            return first
        return first.model_copy(update={"reason": "; ".join(f"{answer.agent}: {answer.reason}" for answer in answers)})

    async def _train_asked(self, agent: str) -> TrainAnswer:
        permission = self._permission_of(agent)
        if permission is None:
            return TrainAnswer(status="skipped", agent=agent, reason="its mode is skills_only, so it is not trained")
        try:
            outcome = await permission.run(agent, self._training.attempt(agent), is_asked=True)
        except MetaClawError as error:
            return TrainAnswer(status="error", agent=agent, reason=str(error))
        self._pauses.pop(agent, None)
        if isinstance(outcome, Version):
            return await asyncio.to_thread(self._made, outcome)
        status = "refused" if isinstance(outcome, Rejected) else "skipped"
        return TrainAnswer(status=status, agent=agent, reason=outcome.reason)

    def _made(self, version: Version) -> TrainAnswer:
        rewards = self._journal.rewards_of(version.update_id)
        tried = self._journal.canary(version.agent)
        return TrainAnswer(
            status="ok",
            agent=version.agent,
            reason=f"version {version.version} {'serves' if tried is None else 'is tried first'}",
            step=version.version,
            samples=len(rewards),
            mean_reward=sum(rewards) / max(1, len(rewards)),
            success_rate=sum(reward > 0 for reward in rewards) / max(1, len(rewards)),
        )


def _for_all(permission: Permission, agent: str) -> Permission:
    del agent
    return permission


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """How long an agent's training rests after failures in a row."""

    since: float = 0.0
    length_s: float = 0.0

    def is_on(self, now: float) -> bool:
        """Whether it goes on; a clock that was set back does not make it longer."""
        return self.since <= now < self.since + self.length_s


_NO_PAUSE = _Pause()
