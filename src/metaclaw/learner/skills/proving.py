"""The job that tries skills which a model wrote, and ends their trials.

Owns what is compared next and what follows from a verdict; refuses to know how a replay is put together and what a
verdict rests on. Invariant: a candidate is served (but for its share on experiment) only after a verdict that says so,
and its file is written before that is recorded; the failures that it was written for are never what it is tried on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.journal.skill_records import Candidate, Comparison
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import RecordedExchange, TurnReader
from metaclaw.learner.judges.judge import Judge
from metaclaw.learner.skills.answerers import Answerer
from metaclaw.learner.skills.comparing import Comparing
from metaclaw.learner.skills.experiments import Observing
from metaclaw.learner.skills.replays import RecallWith, Replay, measured, replay_of, why_not
from metaclaw.learner.skills.shelf import Shelf
from metaclaw.learner.skills.views import LearnersSkills, skill_of
from metaclaw.recall.composing import Budget
from metaclaw.recall.sizes import ESTIMATED, Measuring, Sizes
from metaclaw.skills.trial.evidence import verdict_on
from metaclaw.skills.trial.verdicts import TrialRule, TrialVerdict

_log = logging.getLogger(__name__)

_HOUR_S = 3600.0
_MAX_AGE_S = 30 * 86_400.0
_MAX_OTHERS = 6  # exchanges that a candidate does not fit, of each candidate
_FITTING_PER_OTHER = 4
_PAGE = 100
_MAX_MEASURED = 1000  # texts; what is beyond is estimated


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvingRule:
    """``share`` of 0 makes no experiments. Each replay takes two answers and two judgements."""

    trial: TrialRule
    share: float = 0.5
    replays_per_hour: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvingParts:
    """What the job works with. Without a judge nothing is compared; without an answerer nothing is replayed.

    ``measuring`` counts tokens as recall does; without it they are estimated.
    """

    turns_db: Path
    trials: SkillTrials
    skills: LearnersSkills
    shelf: Shelf
    budget: Budget
    judge: Judge | None
    answerer: Answerer | None
    chance: random.Random
    measuring: Measuring | None = None


class Proving:
    """Tries all candidates, one comparison each at a time."""

    name = "trying skills"
    poll_s = 15.0

    def __init__(self, parts: ProvingParts, rule: ProvingRule, clock: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._rule = rule
        self._clock = clock
        self._observing = Observing(parts.turns_db, parts.trials)
        self._replayed_at: list[float] = []
        self._looked_at: dict[str, float] = {}
        self._waiting: dict[str, list[tuple[str, bool]]] = {}  # candidate -> exchanges to replay, and whether it fits

    async def step(self) -> bool:
        """Compare once for each candidate; return whether anything was found out."""
        with self._parts.trials.reading() as reader:
            candidates = reader.candidates(state="trial")
        self._waiting = {one.id: self._waiting[one.id] for one in candidates if one.id in self._waiting}
        self._observing.keep({one.id for one in candidates})
        worked = False
        for candidate in candidates:
            worked |= await self.try_once(candidate)
        return worked

    async def try_once(self, candidate: Candidate) -> bool:
        """Make one more comparison and act on the verdict; return whether there was anything."""
        recall = await self._recall(candidate)
        if await self._end_if_decided(candidate):
            return True
        if candidate.experiment is not None:
            seen = await asyncio.to_thread(self._observing.observe, candidate, recall)
            return seen and await self._end_if_decided(candidate)
        if await self._replay_next(candidate, recall):
            await self._end_if_decided(candidate)
            return True
        return False

    def verdict(self, candidate: Candidate) -> TrialVerdict:
        """What the comparisons say so far."""
        with self._parts.trials.reading() as reader:
            comparisons = reader.comparisons(candidate.id)
        return verdict_on(candidate, comparisons, self._rule.trial)

    async def adopt(self, candidate: Candidate, reason: str) -> int:
        """Serve a candidate; return the agent's generation. Raises ``SkillError`` when it must not be."""
        visible = await self._parts.skills.visible(candidate.agent)
        await asyncio.to_thread(self._parts.shelf.put, candidate, visible, reason)
        generation = await asyncio.to_thread(self._parts.trials.adopt, candidate.id, reason)
        _log.info("%s: %s is adopted, generation %d: %s", candidate.agent, candidate.name, generation, reason)
        return generation

    async def _end_if_decided(self, candidate: Candidate) -> bool:
        verdict = await asyncio.to_thread(self.verdict, candidate)
        if verdict.outcome == "undecided":
            return False
        if verdict.outcome == "adopt":
            try:
                await self.adopt(candidate, verdict.reason)
            except SkillError as error:
                await asyncio.to_thread(self._parts.trials.reject, candidate.id, str(error))
                _log.warning("%s: %s helps and cannot be served: %s", candidate.agent, candidate.name, error)
        else:
            await asyncio.to_thread(self._parts.trials.reject, candidate.id, verdict.reason)
            _log.info("%s: %s is turned down: %s", candidate.agent, candidate.name, verdict.reason)
        return True

    async def _recall(self, candidate: Candidate) -> RecallWith:
        visible = await self._parts.skills.visible(candidate.agent)
        tried, measuring = skill_of(candidate), self._parts.measuring
        sizes: Sizes = ESTIMATED
        if measuring is not None:
            texts = measured([tried, *visible.by_name.values()])[:_MAX_MEASURED]
            sizes = await measuring.sizes(candidate.agent, texts)
        return RecallWith(skills=visible.by_name, candidate=tried, budget=self._parts.budget, sizes=sizes)

    async def _replay_next(self, candidate: Candidate, recall: RecallWith) -> bool:
        judge, answerer = self._parts.judge, self._parts.answerer
        if judge is None or answerer is None or not self._may_replay():
            return False
        exchange = await self._next(candidate, recall)
        if exchange is None:
            return False
        exchange_id, fits = exchange
        replay = await asyncio.to_thread(self._replay, exchange_id, recall, fits)
        if isinstance(replay, str):
            comparison = Comparison(candidate=candidate.id, exchange=exchange_id, kind="replay", fits=fits, void=replay)
        else:
            self._replayed_at.append(self._clock())
            comparing = Comparing(judge=judge, answerer=answerer, chance=self._parts.chance)
            comparison = await comparing.compare(candidate.id, candidate.agent, replay, fits=fits)
        await asyncio.to_thread(self._parts.trials.compare, comparison)
        return True

    async def _next(self, candidate: Candidate, recall: RecallWith) -> tuple[str, bool] | None:
        waiting = self._waiting.get(candidate.id)
        if not waiting and self._clock() - self._looked_at.get(candidate.id, 0.0) >= _HOUR_S / 6:
            self._looked_at[candidate.id] = self._clock()
            waiting = await asyncio.to_thread(self._look, candidate, recall)
            if not any(fits for _, fits in waiting):
                waiting = []
                await self._begin_experiment(candidate)
            self._waiting[candidate.id] = waiting
        return waiting.pop(0) if waiting else None

    def _look(self, candidate: Candidate, recall: RecallWith) -> list[tuple[str, bool]]:
        """What can be replayed for a candidate, newest first, one that it does not fit after some that it does."""
        if not self._parts.turns_db.exists():
            return []
        with self._parts.trials.reading() as reader:
            comparisons = reader.comparisons(candidate.id)
        known = {one.exchange for one in comparisons} | set(candidate.exchanges)
        num_others = sum(not one.fits for one in comparisons)
        fitting: list[str] = []
        others: list[str] = []
        with TurnReader.open(self._parts.turns_db) as turns:
            for recorded in _recent(turns, candidate.agent, self._clock() - _MAX_AGE_S):
                if recorded.id not in known and why_not(recorded) is None:
                    (fitting if recall.fits(recorded.human) else others).append(recorded.id)
        fitting.reverse()
        chosen = self._parts.chance.sample(others, min(len(others), max(0, _MAX_OTHERS - num_others)))
        order: list[tuple[str, bool]] = []
        for number, exchange in enumerate(fitting, 1):
            order.append((exchange, True))
            if number % _FITTING_PER_OTHER == 0 and chosen:
                order.append((chosen.pop(), False))
        return order

    def _replay(self, exchange: str, recall: RecallWith, fits: bool) -> Replay | str:
        with TurnReader.open(self._parts.turns_db) as turns:
            recorded = turns.exchange(exchange)
            return "it is gone" if recorded is None else replay_of(turns, recorded, recall, fits=fits)

    async def _begin_experiment(self, candidate: Candidate) -> None:
        if self._rule.share <= 0 or self._parts.judge is None:
            return
        now = self._clock()
        with self._parts.trials.reading() as reader:
            usual = reader.mean_score(candidate.agent, now)
        await asyncio.to_thread(
            lambda: self._parts.trials.begin_experiment(candidate.id, share=self._rule.share, usual=usual)
        )
        _log.info(
            "%s: no recorded exchange can be replayed for %s: it is served to %.0f%% of the turns that it fits",
            candidate.agent, candidate.name, 100 * self._rule.share,
        )  # fmt: skip

    def _may_replay(self) -> bool:
        now = self._clock()
        self._replayed_at = [at for at in self._replayed_at if now - _HOUR_S < at <= now]  # it may have been set back
        return len(self._replayed_at) < self._rule.replays_per_hour


def _recent(turns: TurnReader, agent: str, since: float) -> list[RecordedExchange]:
    found: dict[str, RecordedExchange] = {}
    after = turns.seq_at(since)
    while page := turns.exchanges(after_seq=after, agent=agent, limit=_PAGE):
        found |= {recorded.id: recorded for recorded in page}
        after = page[-1].turns[-1].seq
    return list(found.values())
