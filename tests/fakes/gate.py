"""A gate that lets everything pass but what it is told to refuse."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from metaclaw.learner.gate.examination import Examination, NewWeights


@dataclass(slots=True)
class FakeGate:
    """``answers`` are given once each, by agent: why it refuses, or what it raises. When ``is_slow`` it never ends."""

    answers: dict[str, str | Exception] = field(default_factory=dict)
    examined: list[NewWeights] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    is_slow: bool = False

    async def examine(self, new: NewWeights) -> Examination:
        self.examined.append(new)
        self.began.set()
        if self.is_slow:
            await asyncio.Event().wait()
        answer = self.answers.pop(new.agent, None)
        if isinstance(answer, Exception):
            raise answer
        return Examination(refused=answer, numbers={"gate/kl": 0.01})
