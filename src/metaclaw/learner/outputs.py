"""The job that keeps an agent's adapter also where ``agents.ID.lora_output`` says.

Owns when a folder is behind what serves; refuses to know how versions come to serve. Invariant: a folder that cannot be
written, or a version that cannot be had, holds up no other agent's folder.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from metaclaw.config import RlSettings
from metaclaw.errors import BackendError, MetaClawError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION
from metaclaw.learner.adapter_transfer import fetch
from metaclaw.learner.jobs import Patience
from metaclaw.learner.output_folder import Mark, clear, lies_there, put

_log = logging.getLogger(__name__)


class Outputs:
    """Looks at what serves each agent of ``places``, and writes what is not there yet."""

    name = "adapter outputs"
    poll_s = 2.0

    def __init__(
        self,
        *,
        journal: LearningJournal,
        session: aiohttp.ClientSession,
        rl: RlSettings,
        places: Mapping[str, Path],
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._session = session
        self._rl = rl
        self._places = places
        self._patience = patience or Patience()
        self._clock = clock
        self._rests: dict[str, tuple[float, float]] = {}  # until when, and how long that was

    async def step(self) -> bool:
        """Bring every folder up to date that is not left alone for a while after a failure."""
        worked = False
        for agent, place in self._places.items():
            until, length_s = self._rests.get(agent, (0.0, 0.0))
            if self._clock() < until:
                continue
            try:
                worked |= await self._keep(agent, place)
            except (MetaClawError, OSError) as error:
                length_s = self._patience.longer(length_s)
                self._rests[agent] = (self._clock() + length_s, length_s)
                _log.warning("agents.%s.lora_output: not written, next attempt in %g s: %s", agent, length_s, error)
            else:
                self._rests.pop(agent, None)
        return worked

    async def _keep(self, agent: str, place: Path) -> bool:
        serving = await asyncio.to_thread(self._serving, agent)
        if serving == await asyncio.to_thread(lies_there, place):
            return False
        if serving is None:
            await asyncio.to_thread(clear, place)
            return False
        with tempfile.TemporaryDirectory(prefix="metaclaw-") as scratch:
            files = Path(scratch) / "adapter"
            await fetch(self._session, self._rl, serving.path, files)
            if await asyncio.to_thread(self._serving, agent) != serving:
                raise BackendError(f"another version of {agent} serves meanwhile")
            await asyncio.to_thread(put, place, files, serving)
        _log.info("%s@%d lies in %s too", agent, serving.version, place)
        return True

    def _serving(self, agent: str) -> Mark | None:
        number = self._journal.serving(agent)
        if number == BASE_VERSION:
            return None
        return Mark(agent=agent, version=number, path=self._journal.version(agent, number).sampler_path)
