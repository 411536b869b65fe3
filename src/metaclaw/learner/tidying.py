"""The job that deletes at the trainer what an update left there when it was cut off.

Owns how often is looked; refuses to know what is deleted, and how. Invariant: a start looks at once, so that what the
process before it left behind does not wait for an agent's next update.
"""

from __future__ import annotations

from typing import Protocol


class Tidier(Protocol):
    """The slice of an ``Updater`` that is used. Raises ``BackendError`` while the trainer is away."""

    async def tidy(self) -> bool: ...


class Tidying:
    """Has what nobody needs deleted, of all agents."""

    name = "what is left at the trainer"

    def __init__(self, tidier: Tidier, *, poll_s: float = 600.0) -> None:
        self.poll_s = poll_s
        self._tidier = tidier

    async def step(self) -> bool:
        """Delete it; return whether there was anything."""
        return await self._tidier.tidy()
