"""The weights that are live at the trainer between two updates of an agent.

Owns opening, keeping and closing them; refuses to know what is trained. Invariant: an agent has one run at most, of the
version that it is kept under, and a run that took a step that is not to be is dropped, since no step can be undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION
from metaclaw.learner.backends.backend import TrainingBackend, TrainingRun


class LiveRuns:
    """``ranks`` are those of agents whose adapter has another rank than the rest."""

    def __init__(self, journal: LearningJournal, backend: TrainingBackend, ranks: Mapping[str, int]) -> None:
        self._journal = journal
        self._backend = backend
        self._ranks = ranks
        self._runs: dict[str, tuple[int, TrainingRun]] = {}

    def __getitem__(self, agent: str) -> TrainingRun:
        return self._runs[agent][1]

    async def resumed(self, agent: str, version: int) -> TrainingRun:
        """The weights of ``version``, with its optimiser. Raises ``BackendError``."""
        if agent in self._runs:
            kept, run = self._runs[agent]
            if kept == version:
                return run
            await self.drop(agent)
        state_path = None
        if version != BASE_VERSION:
            state_path = (await asyncio.to_thread(self._journal.version, agent, version)).state_path
        return await self.opened(agent, version, state_path)

    async def opened(self, agent: str, version: int, state_path: str | None) -> TrainingRun:
        """Those that were saved under ``state_path``, whatever is live now. Raises ``BackendError``."""
        await self.drop(agent)
        # A saved state has its own rank.
        run = await self._backend.open(state_path, rank=self._ranks.get(agent))
        self._runs[agent] = (version, run)
        return run

    def became(self, agent: str, version: int) -> None:
        """What is live is ``version`` by now."""
        self._runs[agent] = (version, self[agent])

    async def drop(self, agent: str) -> None:
        """Let go of what is live, if anything is."""
        if agent in self._runs:
            _, run = self._runs.pop(agent)
            await run.close()

    async def close(self) -> None:
        for agent in list(self._runs):
            await self.drop(agent)
