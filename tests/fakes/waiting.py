"""Time that passes only when somebody waits, and chance that always draws the most."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class FakeWaiting:
    """A ``Waiting`` for pools; ``slept`` has every pause."""

    time_s: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time_s

    def jitter(self, most_s: float) -> float:
        return most_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.time_s += seconds
        await asyncio.sleep(0)
