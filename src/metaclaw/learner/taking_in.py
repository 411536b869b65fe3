"""The job that hands adapters of imported agents over to the training server.

Owns when one is taken in and what it becomes: the agent's first version, with its optimiser and its baseline; refuses
to know archives and how the training server checks them. Invariants: an agent is not trained while its adapter waits,
so that nothing comes before it; and a folder goes only when the version that was made of it is committed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from metaclaw.config import Settings
from metaclaw.errors import BackendError, InvalidRequestError, MetaClawError
from metaclaw.identity import agent_id
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION, Baseline
from metaclaw.learner.adapter_transfer import BASELINE, STATE_FILES, hand_over
from metaclaw.learner.jobs import Patience
from metaclaw.learner.outcomes import Outcome, Waiting
from metaclaw.learner.saving import Saving

if TYPE_CHECKING:  # so that the learner of who trains nothing does without their packages
    from metaclaw.learner.backends.backend import SavedWeights, TrainingBackend

_log = logging.getLogger(__name__)

_LABEL = "-v1-imported"  # in the names of its weights


class NotBefore:
    """Permission for updates of an agent whose adapter waits: not now."""

    async def is_open(self) -> bool:
        return False

    async def run(self, agent: str, work: Coroutine[Any, Any, Outcome], *, is_asked: bool = False) -> Outcome:
        work.close()
        return Waiting(reason=f"the adapter that {agent} was imported with is not at the training server yet")


class TakingIn:
    """Looks into ``settings.imported_adapters`` for what waits."""

    name = "imported adapters"
    poll_s = 5.0

    def __init__(
        self,
        *,
        journal: LearningJournal,
        session: aiohttp.ClientSession,
        settings: Settings,
        backend: TrainingBackend,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._session = session
        self._settings = settings
        self._backend = backend
        self._saving = Saving(journal, lambda: secrets.token_hex(4))
        self._patience = patience or Patience()
        self._clock = clock
        self._rests: dict[str, tuple[float, float]] = {}
        self._refused: set[str] = set()

    def waits(self, agent: str) -> bool:
        """Whether there is an adapter of ``agent`` that shall come first."""
        return agent not in self._refused and _is_state(self._settings.imported_adapters / agent)

    async def step(self) -> bool:
        """Take in what waits, of agents that are trained."""
        worked = False
        for agent in await asyncio.to_thread(self._waiting):
            until, length_s = self._rests.get(agent, (0.0, 0.0))
            if self._clock() < until:
                continue
            try:
                await self._take_in(agent)
                worked = True
            except InvalidRequestError as error:
                self._refused.add(agent)  # until the next start: another training server may take it
                _log.error("%s begins at the base model: its adapter is refused: %s", agent, error)
            except (MetaClawError, OSError) as error:
                length_s = self._patience.longer(length_s)
                self._rests[agent] = (self._clock() + length_s, length_s)
                _log.warning("the adapter of %s is not taken in, next attempt in %g s: %s", agent, length_s, error)
        return worked

    def _waiting(self) -> list[str]:
        root = self._settings.imported_adapters
        names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        return [name for name in names if _is_agent(name) and self.waits(name) and self._settings.is_trained(name)]

    async def _take_in(self, agent: str) -> None:
        folder = self._settings.imported_adapters / agent
        versions = await asyncio.to_thread(self._journal.versions, agent)
        if not versions:
            saved, base_model = await self._at_the_server(agent, folder)
            try:
                await asyncio.to_thread(self._commit, agent, folder, saved, base_model)
            except BaseException:
                self._saving.disown(saved.name)
                raise
            _log.info("%s@1 serves: the adapter that it was imported with", agent)
        elif f"{agent}{_LABEL}-" in versions[0].sampler_path:  # the end of the time before was cut off
            _log.info("%s@1 was taken in before", agent)
        else:
            raise InvalidRequestError(f"{agent} was trained here meanwhile; what it brought stays in {folder}")
        await asyncio.to_thread(shutil.rmtree, folder)

    async def _at_the_server(self, agent: str, folder: Path) -> tuple[SavedWeights, str]:
        """Its state and its weights for sampling, under a run of its own as every version's."""
        brought = await hand_over(self._session, self._settings.rl, folder, f"{agent}-imported")
        run = await self._backend.open(brought)
        try:
            saved = await self._saving.save(agent, run, f"{agent}{_LABEL}")
            try:
                await run.warm(saved.sampler_path)
            except BaseException:
                self._saving.disown(saved.name)
                raise
            return saved, run.base_model
        finally:
            await run.close()
            await self._forget(brought)

    async def _forget(self, brought: str) -> None:
        try:
            await self._backend.delete([brought])
        except BackendError as error:  # it has a time to live
            _log.info("%s", error)

    def _commit(self, agent: str, folder: Path, saved: SavedWeights, base_model: str) -> None:
        update = self._journal.claim(agent, BASE_VERSION, [])
        version = saved.as_version(base_model)
        try:
            self._journal.commit(
                update, version, number=1, baseline=_baseline(folder / BASELINE), metrics={"imported": 1.0}
            )
        except MetaClawError:
            self._journal.abort(update, "its adapter could not be taken in")
            raise


def _baseline(path: Path) -> Baseline | None:
    try:
        return Baseline(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_state(folder: Path) -> bool:
    return all((folder / name).is_file() for name in STATE_FILES)


def _is_agent(name: str) -> bool:
    try:
        return agent_id(name) == name
    except InvalidRequestError:
        return False
