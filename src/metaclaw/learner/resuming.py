"""The first version of an agent that does not begin with the base model.

Owns making a version of a saved state that a person named (`rl.resume_from`); refuses to know who trained it.
Invariant: it is made once, for an agent that never had a version, and both its halves are saved under names of their
own, so that what was named is never changed or deleted here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from metaclaw.errors import BackendError, ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION, NewVersion, Version
from metaclaw.learner.backends.backend import TrainingBackend, TrainingRun

_log = logging.getLogger(__name__)


class Resuming:
    """Begins agents with the state at ``path``. ``new_suffix`` makes names that were never used."""

    def __init__(
        self, path: str, *, journal: LearningJournal, backend: TrainingBackend, new_suffix: Callable[[], str]
    ) -> None:
        self._path = path
        self._journal = journal
        self._backend = backend
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
        update_id = await asyncio.to_thread(self._journal.claim, agent, BASE_VERSION, ())
        try:
            saved = await run.save(f"{agent}-v1-u{update_id}-{self._new_suffix()}")
            await run.warm(saved.sampler_path)
            new = NewVersion(base_model=run.base_model, state_path=saved.state_path, sampler_path=saved.sampler_path)
            version = await asyncio.to_thread(
                lambda: self._journal.commit(
                    update_id, new, number=1, baseline=None, metrics={"resumed_from": self._path}
                )
            )
        except (BackendError, ConflictError, asyncio.CancelledError) as error:
            self._journal.abort(update_id, str(error) or "the learner was stopped")
            raise
        _log.info("%s@1 serves: it is the state that rl.resume_from names", agent)
        return version
