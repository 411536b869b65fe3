"""Saving at the trainer so that nothing lies there that nobody knows of.

Owns the names, and that the journal knows each before it is used; refuses to know what is saved, and why. Invariant:
whatever ends a saving, a kill too, what came of it is a version's or found and deleted (``Retention``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from metaclaw.errors import JournalError
from metaclaw.journal.learning import LearningJournal

if TYPE_CHECKING:  # so that the learner of who trains nothing does without their packages
    from metaclaw.learner.backends.backend import SavedWeights, TrainingRun

_log = logging.getLogger(__name__)


class Saving:
    """``new_suffix`` makes what was never part of a name, here and in any other home that has the same trainer."""

    def __init__(self, journal: LearningJournal, new_suffix: Callable[[], str]) -> None:
        self._journal = journal
        self._new_suffix = new_suffix

    async def save(self, agent: str, run: TrainingRun, label: str) -> SavedWeights:
        """Save ``run`` under a name that begins with ``label``.

        Raises ``JournalError`` where the name cannot be written down, and ``BackendError``; what was saved until then
        is nobody's.
        """
        name = f"{label}-{self._new_suffix()}"
        await asyncio.to_thread(self._journal.begin_saving, name, agent=agent, run=run.id)
        try:
            saved = await run.save(name)
            await self._note(saved)
        except BaseException:
            self.disown(name)
            raise
        return saved

    async def _note(self, saved: SavedWeights) -> None:
        note = partial(self._journal.note_saved, state_path=saved.state_path, sampler_path=saved.sampler_path)
        try:
            await asyncio.to_thread(note, saved.name)
        except JournalError as error:  # it is found by its name too, and is no reason to train again
            _log.warning("where %s lies could not be written down: %s", saved.name, error)

    def disown(self, name: str) -> None:
        """Nobody needs what was saved under ``name``. It blocks, so that who was cancelled can call it."""
        try:
            self._journal.disown(name)
        except JournalError as error:  # all that is no version's is nobody's at the next start
            _log.warning("what was saved as %s is deleted after the next start: %s", name, error)
