"""The job that takes a version back when its rewards fall.

Owns what is watched and what follows; refuses to know the test. Invariant: only what serves is watched, from the moment
at which it began to; a rollback is recorded with its numbers, and the agent rests before its next update.
"""

from __future__ import annotations

import asyncio
import logging

from metaclaw.config import GateSettings
from metaclaw.errors import ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION
from metaclaw.journal.policy_holds import PolicyHolds, ServingSince
from metaclaw.learner.gate.decline import Decline, decline
from metaclaw.learner.lineage import Lineage

_log = logging.getLogger(__name__)

_MAX_REWARDS = 300
_HOUR_S = 3600.0


class Watching:
    """Watches every agent's policy."""

    name = "watching versions"
    poll_s = 5.0

    def __init__(self, *, journal: LearningJournal, holds: PolicyHolds, settings: GateSettings) -> None:
        self._journal = journal
        self._holds = holds
        self._settings = settings

    async def step(self) -> bool:
        """Look at what serves; return whether anything was taken back."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> bool:
        watched = [self._watch(one) for one in self._holds.serving() if one.version != BASE_VERSION]
        return any(watched)

    def _watch(self, serving: ServingSince) -> bool:
        seen = self._seen(serving)
        if not seen.is_proven:
            return False
        parent = self._journal.version(serving.agent, serving.version).parent
        why = (
            f"rolled back from {serving.version} by itself: rewards fell by {-seen.mean:.2f} of the whole scale over "
            f"{seen.num_pairs} exchanges (rl.gate.rollback_error {self._settings.rollback_error:g})"
        )
        # Before the rollback: whoever is killed between the two looks again, and comes to the same.
        self._holds.hold(serving.agent, "cooldown", why, for_s=self._settings.cooldown_hours * _HOUR_S)
        try:
            self._journal.serve(serving.agent, parent, why)
        except ConflictError as error:
            self._holds.release(serving.agent, "cooldown")
            _log.warning("%s@%d falls behind and stays: %s", serving.agent, serving.version, error)
            return False
        _log.warning(
            "%s@%d serves again: %s; the next update is in %g hours at the earliest",
            serving.agent, parent, why, self._settings.cooldown_hours,
        )  # fmt: skip
        return True

    def _seen(self, serving: ServingSince) -> Decline:
        agent, number = serving.agent, serving.version
        before = Lineage.of(self._journal.versions(agent)).ancestors(number)[1:]
        now = self._holds.rewards(agent, [number], since=serving.since, limit=_MAX_REWARDS, newest=False)
        then = self._holds.rewards(agent, before, since=0.0, limit=_MAX_REWARDS, newest=True)
        return decline(now, then, error=self._settings.rollback_error)
