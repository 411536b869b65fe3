"""Which weights are kept at the trainer, and the end of the others.

Owns the choice and what is left to delete; refuses to know why a version was made. Invariant: a version is marked in
the journal before its files go, and never while it serves; a deletion that fails costs disk space and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from metaclaw.errors import BackendError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.learner.backends.backend import SavedWeights, TrainingBackend
from metaclaw.learner.lineage import Lineage

_log = logging.getLogger(__name__)

# Beside what serves, its last ancestors (to roll back to) and the newest versions (which running sessions keep): a
# version is 80 to 160 MB for a small model, and one further back than rl.update.max_staleness is never trained on.
NUM_KEPT = 3


class Retention:
    """Deletes what nobody will ask for again. What could not be deleted is tried again, until the process ends.

    ``teacher`` is an agent and its version that others learn from: it stays.
    """

    def __init__(
        self, journal: LearningJournal, backend: TrainingBackend, teacher: tuple[str, int] | None = None
    ) -> None:
        self._teacher = teacher
        self._journal = journal
        self._backend = backend
        self._unwanted: list[str] = []

    def discard(self, saved: SavedWeights) -> None:
        """Have the weights of an update that did not commit deleted at the next sweep."""
        self._unwanted += (saved.state_path, saved.sampler_path)

    async def sweep(self, agent: str) -> None:
        """Delete what ``agent`` does not need any more. A trainer that fails is logged."""
        for version in await asyncio.to_thread(self._retire, agent):
            self._unwanted += (version.state_path, version.sampler_path)
        if not self._unwanted:
            return
        try:
            await self._backend.delete(self._unwanted)
        except BackendError as error:
            _log.warning("%s: %d old checkpoints are still to be deleted: %s", agent, len(self._unwanted), error)
        else:
            _log.info("%s: %d old checkpoints are deleted", agent, len(self._unwanted))
            self._unwanted = []

    def _retire(self, agent: str) -> list[Version]:
        versions = self._journal.versions(agent)
        teacher = {version for name, version in filter(None, [self._teacher]) if name == agent}
        return self._journal.retire(agent, keep=kept(versions, self._journal.serving(agent)) | teacher)


def kept(versions: Sequence[Version], serving: int) -> set[int]:
    """What stays: the version that serves, its last ancestors, and the newest of all."""
    ancestors = Lineage.of(versions).ancestors(serving)
    return {*ancestors[: NUM_KEPT + 1], *sorted(version.version for version in versions)[-NUM_KEPT:]}
