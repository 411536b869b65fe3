"""The job that keeps count of skills and retires those that are of no use.

Owns what is counted for ever and the rules for retiring; refuses to know how a skill is switched off. Invariant: only
what a model wrote and a trial adopted is ever retired by a rule; a human's skills are counted and left alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.skill_records import Candidate
from metaclaw.journal.skill_trials import Recall, SkillTrials
from metaclaw.journal.turns import MEMORY_ITEM, TurnReader
from metaclaw.learner.skills.shelf import Shelf
from metaclaw.skills.experiments import TRIAL_ITEM
from metaclaw.skills.trial.sequential import Observation, capital_below

_log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_PAGE = 500
_RETIRE_EVERY_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TendingRule:
    """``error`` bounds how often a skill that still does as well as nothing is retired for doing worse."""

    unused_days: float = 30.0
    error: float = 0.05


class Tending:
    """Counts what was recalled, and retires."""

    name = "tending skills"
    poll_s = 10.0

    def __init__(
        self,
        *,
        turns_db: Path,
        trials: SkillTrials,
        shelf: Shelf,
        rule: TendingRule,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._turns_db = turns_db
        self._trials = trials
        self._shelf = shelf
        self._rule = rule
        self._clock = clock
        self._next_retiring = 0.0
        self._last_turn = 0

    async def step(self) -> bool:
        """Count what came, and now and then look for what is of no use; return whether there was anything."""
        worked = await asyncio.to_thread(self._count)
        if self._clock() >= self._next_retiring:
            self._next_retiring = self._clock() + _RETIRE_EVERY_S
            worked |= await asyncio.to_thread(self._retire)
        return worked

    def _count(self) -> bool:
        if not self._turns_db.exists():
            return False
        with self._trials.reading() as reader:
            self._last_turn = max(self._last_turn, reader.last_recall())
        with TurnReader.open(self._turns_db) as turns:
            page = turns.recalls_after(self._last_turn, limit=_PAGE)
        if not page:
            return False
        self._last_turn = page[-1].seq
        self._trials.keep_recalls(
            [
                Recall(skill=name, exchange=one.exchange, agent=one.agent, seq=one.seq, recalled_at=one.opened_at)
                for one in page
                for name in one.names
                if not name.startswith((MEMORY_ITEM, TRIAL_ITEM))
            ]
        )
        return True

    def _retire(self) -> bool:
        with self._trials.reading() as reader:
            adopted = reader.candidates(state="adopted")
            on_trial = reader.candidates(state="trial")
        # Of several adopted texts of one skill, the newest is served.
        newest = {(one.agent, one.name): one for one in sorted(adopted, key=lambda one: one.changed_at)}
        worked = False
        for candidate in newest.values():
            if reason := self._why_retire(candidate):
                self._shelf.switch_off(candidate.agent, candidate.name)
                self._trials.retire(candidate.id, reason)
                _log.info("%s: %s is retired: %s", candidate.agent, candidate.name, reason)
                worked = True
        for candidate in on_trial:
            if self._is_old(candidate.created_at):
                self._trials.reject(candidate.id, f"not decided within {self._rule.unused_days:g} days")
                worked = True
        return worked

    def _why_retire(self, candidate: Candidate) -> str | None:
        with self._trials.reading() as reader:
            found = reader.utilities(candidate.agent, candidate.name)
            scores = reader.scores_with(candidate.agent, candidate.name, since=candidate.changed_at)
            comparisons = reader.comparisons(candidate.id)
        last_at = max(candidate.changed_at, found[0].last_at if found else 0.0)
        if self._is_old(last_at):
            return f"not recalled for {self._rule.unused_days:g} days"
        without = [one.without_score for one in comparisons if one.fits and one.without_score is not None]
        if not without:
            return None  # a human adopted it without a trial: nothing says how it went before
        usual = sum(without) / len(without)
        seen = [Observation(value=(score - usual) / 2) for score in scores]
        if capital_below(seen) >= 1 / self._rule.error:
            mean = sum(scores) / len(scores)
            return f"it does not help any more: mean reward {mean:+.2f} with it, {usual:+.2f} without it in its trial"
        return None

    def _is_old(self, at: float) -> bool:
        return self._rule.unused_days > 0 and self._clock() - at > self._rule.unused_days * _DAY_S
