"""The first version of an agent that does not begin with the base model.

Owns making a version of a saved state that a person named (`rl.resume_from`); refuses to know who trained it.
Invariant: it is made once, for an agent that never had a version, and both its halves are saved under names of their
own, so that what was named is never changed or deleted here.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from metaclaw.errors import BackendError
from metaclaw.journal.learning_records import BASE_VERSION, Version
from metaclaw.learner.backends.backend import TrainingRun
from metaclaw.learner.claims import Claims
from metaclaw.learner.saving import Saving
from metaclaw.learner.update_parts import UpdateParts

_log = logging.getLogger(__name__)


class Resuming:
    """Begins agents with the state at ``path``."""

    def __init__(self, path: str, *, claims: Claims, parts: UpdateParts, saving: Saving) -> None:
        self._path = path
        self._claims = claims
        self._journal = parts.journal
        self._backend = parts.backend
        self._saving = saving

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
            saved = await self._saving.save(agent, run, f"{agent}-v1-u{update_id}")
            await run.warm(saved.sampler_path)
            new = saved.as_version(run.base_model)
            told = {"resumed_from": self._path}
            commit = partial(self._journal.commit, update_id, new, number=1, baseline=None, metrics=told)
            version = await asyncio.to_thread(commit)
        except BaseException as error:
            self._claims.give_back(agent, update_id, error)
            if saved is not None:
                self._saving.disown(saved.name)
            raise
        _log.info("%s@1 serves: it is the state that rl.resume_from names", agent)
        return version
