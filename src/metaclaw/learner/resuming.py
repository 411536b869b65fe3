"""The first version of an agent that does not begin with the base model.

Owns making a version of a saved state that a person named (`rl.resume_from`); refuses to know who trained it.
Invariant: it is made once, for an agent that never had a version, and both its halves are saved under names of their
own, so that what was named is never changed or deleted here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from metaclaw.errors import BackendError
from metaclaw.journal.learning_records import BASE_VERSION, NewVersion, Version
from metaclaw.learner.backends.backend import SavedWeights, TrainingRun
from metaclaw.learner.claims import Claims
from metaclaw.learner.update_parts import UpdateParts

_log = logging.getLogger(__name__)


class Resuming:
    """Begins agents with the state at ``path``. ``new_suffix`` makes names that were never used."""

    def __init__(self, path: str, *, claims: Claims, parts: UpdateParts, new_suffix: Callable[[], str]) -> None:
        self._path = path
        self._claims = claims
        self._journal = parts.journal
        self._backend = parts.backend
        self._new_suffix = new_suffix

    async def first_version(self, agent: str) -> Version | None:
        """Version 1 of ``agent``, which serves from now on; ``None`` when it had one. Raises ``BackendError``."""
        if await asyncio.to_thread(self._journal.versions, agent):
            return None
        try:
            run = await self._backend.open(self._path)
        except BackendError as error:
            raise BackendError(f"{error} (rl.resume_from: a state that can be trained on, at this trainer)") from error
        try:
            return await self._made(agent, run)
        finally:
            await run.close()

    async def _made(self, agent: str, run: TrainingRun) -> Version:
        update_id = await self._claims.claim(agent, BASE_VERSION, (), rewards={})
        saved = None
        try:
            saved = await run.save(f"{agent}-v1-u{update_id}-{self._new_suffix()}")
            await run.warm(saved.sampler_path)
            new = NewVersion(base_model=run.base_model, state_path=saved.state_path, sampler_path=saved.sampler_path)
            told = {"resumed_from": self._path}
            commit = partial(self._journal.commit, update_id, new, number=1, baseline=None, metrics=told)
            version = await asyncio.to_thread(commit)
        except BaseException as error:
            if self._claims.give_back(agent, update_id, error) and saved is not None:
                await self._forget(saved)
            raise
        _log.info("%s@1 serves: it is the state that rl.resume_from names", agent)
        return version

    async def _forget(self, saved: SavedWeights) -> None:
        try:
            await self._backend.delete((saved.state_path, saved.sampler_path))
        except BackendError as error:
            _log.info("what was saved of %s stays at the trainer: %s", self._path, error)
