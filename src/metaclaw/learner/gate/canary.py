"""The job that decides on versions that are tried on a share of the sessions.

Owns what is compared and what follows; refuses to know the test. Invariant: rewards of the canary are set against those
of what serves in the same days, so requests that got harder are no evidence against it; and a canary ends once, by
serving or by being withdrawn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from metaclaw.config import GateSettings
from metaclaw.errors import ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Canary
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.learner.gate.decline import decline
from metaclaw.learner.gate.inferiority import compare

_log = logging.getLogger(__name__)

_MAX_REWARDS = 1000
_HOUR_S = 3600.0
_DAY_S = 86_400.0


class Canaries:
    """Looks at every agent's canary."""

    name = "trying versions"
    poll_s = 5.0

    def __init__(
        self, *, journal: LearningJournal, holds: PolicyHolds, settings: GateSettings, clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._holds = holds
        self._settings = settings
        self._clock = clock

    async def step(self) -> bool:
        """Decide what can be decided; return whether anything was."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> bool:
        decided = [self._decide(canary) for canary in self._journal.canaries()]
        return any(decided)

    def _decide(self, canary: Canary) -> bool:
        settings = self._settings
        now, then = self._rewards(canary, canary.version), self._rewards(canary, self._journal.serving(canary.agent))
        fallen = decline(now, then, error=settings.rollback_error)
        numbers = f"{fallen.mean:+.2f} of the whole scale over {fallen.num_pairs} pairs of exchanges"
        if fallen.is_proven:
            return self._withdraw(canary, f"version {canary.version} is withdrawn by itself: its rewards are {numbers}")
        differences = [(own - other) / 2 for own, other in zip(now, then, strict=False)]
        compared = compare(differences, margin=settings.margin, error=settings.error)
        if compared.outcome == "worse":
            why = f"it is worse by more than rl.gate.margin, {numbers}"
            return self._withdraw(canary, f"version {canary.version} is withdrawn by itself: {why}")
        if compared.outcome == "passes":
            return self._promote(canary, f"its rewards were not worse, {numbers}")
        if abs(self._clock() - canary.since) < settings.canary_days * _DAY_S:  # the clock may have been set back
            return False
        if fallen.mean < 0:
            why = f"undecided after {settings.canary_days:g} days (rl.gate.canary_days), and rather worse, {numbers}"
            return self._withdraw(canary, f"version {canary.version} is withdrawn by itself: {why}")
        return self._promote(canary, f"nothing spoke against it in {settings.canary_days:g} days, {numbers}")

    def _rewards(self, canary: Canary, version: int) -> list[float]:
        return self._holds.rewards(canary.agent, [version], since=canary.since, limit=_MAX_REWARDS, newest=False)

    def _withdraw(self, canary: Canary, why: str) -> bool:
        # Before the end: whoever is killed between the two looks again, and comes to the same.
        self._holds.hold(canary.agent, "cooldown", why, for_s=self._settings.cooldown_hours * _HOUR_S)
        try:
            self._journal.end_canary(canary, why, serves=False)
        except ConflictError as error:  # somebody decided meanwhile
            self._holds.release(canary.agent, "cooldown")
            _log.info("%s", error)
            return False
        _log.warning(
            "%s: %s; the next update is in %g hours at the earliest", canary.agent, why, self._settings.cooldown_hours
        )
        return True

    def _promote(self, canary: Canary, why: str) -> bool:
        try:
            self._journal.end_canary(canary, why, serves=True)
        except ConflictError as error:
            _log.info("%s", error)
            return False
        _log.info("%s@%d serves all new sessions: %s", canary.agent, canary.version, why)
        return True
