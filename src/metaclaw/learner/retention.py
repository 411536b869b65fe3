"""Which weights are kept at the trainer, and the end of the others.

Owns the choice and deleting what nobody needs; refuses to know why a version was made. Invariant: a version is marked
in the journal before its files go, and never while it serves; what could not be deleted is tried again, after a restart
too; and nothing is deleted there that was not saved under a name of this journal's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial

from metaclaw.errors import BackendError
from metaclaw.journal.learning import Clock, LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.journal.saved_weights import UnownedWeights
from metaclaw.learner.backends.backend import TrainingBackend
from metaclaw.learner.lineage import Lineage

_log = logging.getLogger(__name__)

# Beside what serves, its last ancestors (to roll back to) and the newest versions (which running sessions keep): a
# version is 80 to 160 MB for a small model, and one further back than rl.update.max_staleness is never trained on.
NUM_KEPT = 3

_HALVES = 2
# A trainer that was told to save goes on when who told it is gone, behind whatever it does before. So one that has
# nothing under a name yet is asked again for so long.
_LATEST_S = 86_400.0


class Retention:
    """Deletes what nobody will ask for again.

    ``teacher`` is an agent and its version that others learn from: it stays. ``clock`` is the journal's, in Unix
    seconds.
    """

    def __init__(
        self,
        journal: LearningJournal,
        backend: TrainingBackend,
        teacher: tuple[str, int] | None = None,
        *,
        clock: Clock,
    ) -> None:
        self._teacher = teacher
        self._journal = journal
        self._backend = backend
        self._clock = clock
        self._failures = Counter[str]()  # by name
        self._at_work = asyncio.Lock()  # what is found is counted once

    async def sweep(self, agent: str) -> None:
        """Give up what ``agent`` does not need any more, and delete that and all else that nobody needs.

        A trainer that fails is logged.
        """
        await asyncio.to_thread(self._retire, agent)
        try:
            await self.delete_unowned()
        except BackendError as error:
            num_left = _HALVES * len(await asyncio.to_thread(self._journal.unowned))
            _log.warning("%s: %d old checkpoints are still to be deleted: %s", agent, num_left, error)

    async def delete_unowned(self) -> int:
        """Delete what nobody needs; how many files were there.

        Raises ``BackendError`` as soon as the trainer fails at something, which comes last the next time: a trainer may
        be away, and one thing may be wrong for good.
        """
        num_deleted = 0
        async with self._at_work:
            unowned = await asyncio.to_thread(self._journal.unowned)
            for one in sorted(unowned, key=lambda one: self._failures[one.name]):
                try:
                    num_deleted += await self._delete(one)
                except BackendError:
                    self._failures[one.name] += 1
                    raise
        if num_deleted:
            _log.info("%d old checkpoints are deleted", num_deleted)
        return num_deleted

    async def _delete(self, one: UnownedWeights) -> int:
        paths = one.paths or await self._backend.saved_as(one.name, run=one.run)
        if paths:
            await self._backend.delete(paths)
        # Who was cut off waited for the first half before it asked for the second, so more may come after one.
        is_all = len(paths) == _HALVES or self._clock() - one.begun_at > _LATEST_S
        note = partial(self._journal.note_deleted, one.name, len(paths), is_all=is_all)
        if paths or is_all:
            await asyncio.to_thread(note)
        if paths and not one.paths:
            _log.warning(
                "%s: %d weight files of a saving that was cut off are deleted: %s", one.agent, len(paths), one.name
            )
        return len(paths)

    def _retire(self, agent: str) -> None:
        versions = self._journal.versions(agent)
        teacher = {version for name, version in filter(None, [self._teacher]) if name == agent}
        self._journal.retire(agent, keep=kept(versions, self._journal.serving(agent)) | teacher)


def kept(versions: Sequence[Version], serving: int) -> set[int]:
    """What stays: the version that serves, its last ancestors, and the newest of all."""
    ancestors = Lineage.of(versions).ancestors(serving)
    return {*ancestors[: NUM_KEPT + 1], *sorted(version.version for version in versions)[-NUM_KEPT:]}
