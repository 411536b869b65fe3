"""The samples that an update has while it is made.

Owns that they are claimed for it, and given back when it is not made; refuses to know what it does with them.
Invariant: however an attempt ends, by a fault that nobody foresaw too, no sample stays with an update that nobody
makes, but while the journal cannot be written; and then it is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from metaclaw.errors import ConflictError, JournalError
from metaclaw.journal.learning import LearningJournal

_log = logging.getLogger(__name__)


class Claims:
    """One agent's update at a time."""

    def __init__(self, journal: LearningJournal) -> None:
        self._journal = journal
        self._owed: dict[str, tuple[int, str]] = {}  # by agent, the update that could not be ended, and why it is

    async def claim(self, agent: str, parent: int, turns: Sequence[str], *, rewards: Mapping[str, float]) -> int:
        """An update of ``agent`` on ``turns``. Raises what ``LearningJournal.claim`` does.

        Who is cancelled meanwhile has claimed nothing: a call in a thread is not stopped, so it is waited for.
        """
        call = partial(self._journal.claim, agent, parent, turns, rewards=rewards)
        claiming = asyncio.create_task(asyncio.to_thread(call))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError as error:
            await asyncio.wait({claiming})
            if claiming.exception() is None:
                self.give_back(agent, claiming.result(), error)
            raise

    def give_back(self, agent: str, update_id: int, error: BaseException) -> bool:
        """The update could not be finished because of ``error``; false where it was, as is found here."""
        reason = str(error) or "the learner was stopped"
        try:
            self._journal.abort(update_id, reason)
        except ConflictError:
            # Cancelled while the commit was on its way: it is done, and the journal is right.
            _log.info("update %d was finished before it could be aborted", update_id)
            return False
        except JournalError as fault:
            _log.warning("the samples of update %d are given back later: %s", update_id, fault)
            self._owed[agent] = update_id, reason
        return True

    async def settle(self, agent: str) -> None:
        """Give back what could not be given back before. Raises ``JournalError`` where it cannot be yet."""
        if agent not in self._owed:
            return
        update_id, reason = self._owed[agent]
        await asyncio.to_thread(self._journal.abort, update_id, reason)
        del self._owed[agent]
