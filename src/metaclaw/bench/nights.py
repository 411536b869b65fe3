"""What happens between two days: the learner takes in what was said.

Owns waiting for it and asking for an update; refuses to know what is learned. Invariant: nothing here waits longer than
``patience_s``, and what was not done by then is said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metaclaw.journal.learning_status import read_status
from metaclaw.journal.train_steps import TrainAnswer, TrainSteps

_ASK_S = 30.0
_POLL_S = 1.0
_STILL_S = 15.0  # a judge asks several votes of another model: silence for so long means that it has seen all


class Reader(Protocol):
    """The slice of ``GatewayClient`` that is used."""

    async def read_for_memories(self, session: str, *, agent: str, wait_s: float) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """Between the days of ``agent``. ``train_every`` days an update is asked for; 0 is never.

    All is judged when nothing has been for ``still_s``.
    """

    model: Reader
    learning_db: Path
    requests_db: Path
    agent: str
    remembers: bool
    train_every: int
    patience_s: float
    say: Callable[[str], None]
    still_s: float = _STILL_S

    async def after(self, session: str, *, num_days: int) -> None:
        """What follows the day of ``session``, the last of ``num_days`` so far. Raises ``GatewayError``."""
        if self.remembers and not await self._is_read(session):
            self.say(f"the memory has not read this day within {self.patience_s:g} s: it is read later")
        if self.train_every and num_days % self.train_every == 0:
            await self._until_judged()
            answer = await self._train_step()
            self.say("no answer of the learner in time" if answer is None else f"{answer.status}: {answer.reason}")

    async def _is_read(self, session: str) -> bool:
        until = time.monotonic() + self.patience_s
        while (left := until - time.monotonic()) > 0:
            if await self.model.read_for_memories(session, agent=self.agent, wait_s=min(_ASK_S, left)):
                return True
        return False

    async def _until_judged(self) -> None:
        """Wait until no further exchange is judged."""
        until, still_since, before = time.monotonic() + self.patience_s, time.monotonic(), -1
        while time.monotonic() < min(until, still_since + self.still_s):
            now = await asyncio.to_thread(self._num_judged)
            if now != before:
                before, still_since = now, time.monotonic()
            await asyncio.sleep(_POLL_S)

    def _num_judged(self) -> int:
        return sum(one.judged + one.failed for one in read_status(self.learning_db) if one.agent == self.agent)

    async def _train_step(self) -> TrainAnswer | None:
        steps, now = TrainSteps(self.requests_db), time.time()
        number = await asyncio.to_thread(steps.ask, self.agent, now=now, until=now + self.patience_s)
        until = time.monotonic() + self.patience_s
        while time.monotonic() < until:
            if (answer := await asyncio.to_thread(steps.answered, number)) is not None:
                return answer
            await asyncio.sleep(_POLL_S)
        return None
