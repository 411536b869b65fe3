"""The learner's two tasks: judging what was said, and training when enough was judged.

Owns when each is tried again; refuses to know how either is done. Invariant: a judge or a trainer that fails delays
learning and nothing else, and is asked again after a pause that grows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from metaclaw.errors import BackendError, ConflictError, JudgeError
from metaclaw.journal.learning import Clock, LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.learner.inbox import DueExchange, Inbox
from metaclaw.learner.judges.judge import Judge, JudgeUnavailableError
from metaclaw.learner.outcomes import Outcome, Waiting

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often is looked and tried."""

    poll_s: float = 1.0
    judge_at_once: int = 8
    judge_page: int = 64
    first_pause_s: float = 5.0
    longest_pause_s: float = 300.0


class Training(Protocol):
    """The slice of an ``Updater`` that is used."""

    async def attempt(self, agent: str) -> Outcome: ...

    async def close(self) -> None: ...


class Learner:
    """Judges and trains until it is cancelled."""

    def __init__(
        self,
        *,
        journal: LearningJournal,
        inbox: Inbox,
        judge: Judge,
        training: Training,
        pace: Pace | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._journal = journal
        self._inbox = inbox
        self._judge = judge
        self._training = training
        self._pace = pace or Pace()
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Learn for ever. An error that nobody foresaw ends it: its process starts anew."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self.judge_due))
                tasks.create_task(self._repeat(self.train_due))
        finally:
            await self._training.close()

    async def judge_due(self) -> bool:
        """Judge what is due; return whether there was anything."""
        due = await asyncio.to_thread(self._inbox.due, self._pace.judge_page)
        at_once = asyncio.Semaphore(self._pace.judge_at_once)
        async with asyncio.TaskGroup() as tasks:
            for exchange in due:
                tasks.create_task(self._judge_one(exchange, at_once))
        return bool(due)

    async def train_due(self) -> bool:
        """Attempt an update of each agent; return whether one was made."""
        worked = False
        for agent in await asyncio.to_thread(self._journal.agents_with_pending):
            if self._clock() >= self._pauses.get(agent, _NO_PAUSE).until:
                worked |= await self._train_one(agent)
        return worked

    async def _repeat(self, step: Callable[[], Awaitable[bool]]) -> None:
        while True:
            if not await step():
                await asyncio.sleep(self._pace.poll_s)

    async def _judge_one(self, due: DueExchange, at_once: asyncio.Semaphore) -> None:
        exchange = due.exchange
        async with at_once:
            try:
                verdict = await self._judge.judge(exchange)
            except JudgeError as error:
                is_outage = isinstance(error, JudgeUnavailableError)
                await self._record_failure(due, {"error": str(error)}, is_outage=is_outage)
                return
        if verdict.score is None:
            await self._record_failure(due, {"no_opinion": True, **verdict.detail}, is_outage=False)
            return
        score, detail = verdict.score, {**verdict.detail, "excluded": dict(due.excluded)}

        def record() -> None:
            self._journal.record_verdict(
                exchange=exchange.id,
                agent=exchange.agent,
                judge=self._judge.name,
                score=score,
                detail=detail,
                samples=due.samples(score),
            )

        await asyncio.to_thread(record)

    async def _record_failure(self, due: DueExchange, detail: dict[str, object], *, is_outage: bool) -> None:
        def record() -> int:
            return self._journal.record_failure(
                exchange=due.exchange.id,
                agent=due.exchange.agent,
                judge=self._judge.name,
                detail=detail,
                is_outage=is_outage,
            )

        attempts = await asyncio.to_thread(record)
        if "error" in detail:
            _log.warning("exchange %s is unjudged after attempt %d: %s", due.exchange.id, attempts, detail["error"])

    async def _train_one(self, agent: str) -> bool:
        try:
            outcome = await self._training.attempt(agent)
        except (BackendError, ConflictError) as error:
            pause = self._pauses.get(agent, _NO_PAUSE).longer(self._clock(), self._pace)
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

    def longer(self, now: float, pace: Pace) -> _Pause:
        length_s = min(pace.longest_pause_s, max(pace.first_pause_s, 2 * self.length_s))
        return replace(self, until=now + length_s, length_s=length_s)


_NO_PAUSE = _Pause()
