"""A gate that lets everything pass but what it is told to refuse."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from metaclaw.learner.gate.examination import Examination, NewWeights


@dataclass(slots=True)
class FakeGate:
    """``answers`` are given once each, by agent: why it refuses, or what it raises.

    When ``is_slow`` it does not end before ``go_on``.
    """

    answers: dict[str, str | Exception] = field(default_factory=dict)
    examined: list[NewWeights] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    is_slow: bool = False
    _may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def go_on(self) -> None:
        """Let examinations end."""
        self.is_slow = False
        self._may_end.set()

    async def examine(self, new: NewWeights) -> Examination:
        self.examined.append(new)
        self.began.set()
        if self.is_slow:
            await self._may_end.wait()
        answer = self.answers.pop(new.agent, None)
        if isinstance(answer, Exception):
            raise answer
        return Examination(refused=answer, numbers={"gate/kl": 0.01})
