"""One update: from judged turns to a version that serves.

Owns the order of its steps; refuses to know the arithmetic of any of them. Invariant: a version and the samples it
consumed are committed in one transaction after everything it consists of exists; whatever fails before leaves the
serving version and the samples as they were, except that the gate's refusal spends them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from metaclaw.errors import BackendError, JournalError, RewardsChangedError
from metaclaw.journal.learning import Clock
from metaclaw.journal.learning_records import BASE_VERSION, Version
from metaclaw.journal.lessons import TaughtTurn
from metaclaw.learner.backends.backend import LostStateError, RefusedDataError, TrainingRun
from metaclaw.learner.batches import Batch
from metaclaw.learner.candidates import Candidate, Prepared
from metaclaw.learner.claims import Claims
from metaclaw.learner.corrections import Corrected
from metaclaw.learner.datums import build_groups, rolled_out
from metaclaw.learner.distillation.lessons import NO_LESSONS, Lessons
from metaclaw.learner.gate.examination import JudgeAwayError, NewWeights
from metaclaw.learner.learning_rate import warming
from metaclaw.learner.live_runs import LiveRuns
from metaclaw.learner.measurements import json_safe
from metaclaw.learner.outcomes import Outcome, Rejected, Waiting
from metaclaw.learner.preparing import Preparing
from metaclaw.learner.refused import refused_turns
from metaclaw.learner.resuming import Resuming
from metaclaw.learner.retention import Retention
from metaclaw.learner.rollouts import RolledOut
from metaclaw.learner.saving import Saving
from metaclaw.learner.stepping import Seconds, Stepped, Stepper, timed
from metaclaw.learner.update_parts import UpdateParts, UpdateRules

_log = logging.getLogger(__name__)

# A step over rl.update.max_kl is taken back and tried again, shorter. Two tries bring one of a hundred times the limit
# under it; one further off has another cause.
MAX_SHORTENED = 2

CLOSE_S = 5.0  # for a trainer that says nothing

_MOSTLY_MASKED = (
    "sampler and trainer disagree about {} of {} answers (rl.update.max_mismatch): the others agree by chance, and "
    "nothing is trained on. Do both run the same base model, in the same precision?"
)


class Updater:
    """Makes updates, and keeps the weights of the last version of each agent live at the trainer in between.

    ``new_suffix`` makes names that were never used; ``clock`` is in Unix seconds."""

    def __init__(
        self, parts: UpdateParts, rules: UpdateRules, *, new_suffix: Callable[[], str], clock: Clock = time.time
    ) -> None:
        self._parts = parts
        self._rules = rules
        self._journal = parts.journal
        self._claims = Claims(parts.journal)
        self._preparing = Preparing(parts.journal, parts.turns_db, rules.update, clock)
        self._live = LiveRuns(parts.journal, parts.backend, rules.ranks)
        self._stepper = Stepper(parts.backend, rules.update)
        self._saving = Saving(parts.journal, new_suffix)
        self._retention = Retention(parts.journal, parts.backend, rules.teacher, clock=clock)
        self._candidates: dict[str, Candidate] = {}  # of the update that runs, or was interrupted

    async def attempt(self, agent: str) -> Outcome:
        """Make one update of ``agent`` if it is due. One that was interrupted after its step, or whose judge was away,
        goes on from there.

        Raises ``BackendError`` when the trainer fails, ``ConflictError`` when the agent was rolled back meanwhile, and
        ``JournalError`` when the journal cannot be written. Whatever it raises, the samples are pending again.
        """
        await self._claims.settle(agent)
        held = await asyncio.to_thread(self._parts.holds.holds, agent)
        if held:
            return Waiting(reason=f"{held[0].kind}: {held[0].reason}")
        if self._rules.resume_from and (first := await self._resuming().first_version(agent)):
            return first
        if canary := await asyncio.to_thread(self._journal.canary, agent):
            return Waiting(reason=f"version {canary.version} is tried on {canary.share:.0%} of new sessions first")
        parent = await asyncio.to_thread(self._journal.serving, agent)
        candidate = await asyncio.to_thread(self._interrupted, agent, parent)
        prepared = candidate.prepared if candidate else await asyncio.to_thread(self._preparing.prepare, agent, parent)
        if isinstance(prepared, Waiting):
            return prepared
        # Nothing is claimed before trainer and teachers are there: while one is down, no update is aborted, all wait.
        run = await self._run(agent, parent, candidate)
        if isinstance(run, Waiting):
            return run
        lessons = NO_LESSONS if candidate else await self._taught(agent, parent, prepared, run)
        if isinstance(lessons, Waiting):
            return lessons
        try:
            update_id = await self._claims.claim(agent, parent, prepared.turns, rewards=prepared.rewards)
        except RewardsChangedError as error:  # a person said something of an answer while teachers were asked
            return Waiting(reason=f"{error}: they are chosen anew")
        try:
            made = candidate or await self._train(agent, parent, update_id, prepared, run, lessons)
            outcome = await self._examine(agent, update_id, made) if isinstance(made, Candidate) else made
        except BaseException as error:
            self._give_up(agent, update_id, error)
            await self._live.drop(agent)  # nobody knows what its weights have become
            raise
        await self._retention.sweep(agent)
        return outcome

    async def close(self) -> None:
        """Let go of everything live at the trainer, and of what was interrupted: nobody remembers it after this."""
        await self._live.close()
        if interrupted := list(self._candidates):
            for agent in interrupted:
                self._discard(agent)
            with suppress(BackendError, JournalError, TimeoutError):  # what is left is deleted after the next start
                async with asyncio.timeout(CLOSE_S):
                    await self._retention.delete_unowned()
        await self._parts.backend.close()

    async def tidy(self) -> bool:
        """Delete what lies at the trainer because an update was cut off; return whether there was anything.

        Raises ``BackendError`` when the trainer fails.
        """
        return bool(await self._retention.delete_unowned())

    def _resuming(self) -> Resuming:
        return Resuming(self._rules.resume_from, claims=self._claims, parts=self._parts, saving=self._saving)

    def _discard(self, agent: str) -> None:
        """Its candidate will not serve: have its weights deleted at the next sweep."""
        if candidate := self._candidates.pop(agent, None):
            self._saving.disown(candidate.saved.name)

    def _interrupted(self, agent: str, parent: int) -> Candidate | None:
        candidate = self._candidates.get(agent)
        if candidate is None or candidate.stands(parent, self._journal.pending(agent)):
            return candidate
        _log.info("%s: an interrupted update is given up: what it was made of has changed", agent)
        self._discard(agent)
        return None

    async def _run(self, agent: str, parent: int, candidate: Candidate | None) -> TrainingRun | Waiting:
        try:
            if candidate is None:
                return await self._live.resumed(agent, parent)
            return await self._live.opened(agent, candidate.prepared.number, candidate.saved.state_path)
        except LostStateError as error:
            if candidate is None:
                raise LostStateError(f"{error}; `metaclaw policy rollback` goes back to another version") from error
            self._discard(agent)
            return Waiting(reason=f"what an interrupted update saved is gone, it begins anew: {error}")

    async def _taught(self, agent: str, parent: int, prepared: Prepared, run: TrainingRun) -> Lessons | Waiting:
        """What teachers say of what was prepared; or why it cannot be learned from."""
        foreign = await asyncio.to_thread(self._preparing.leave_foreign, agent, prepared, run.base_model)
        if foreign is not None:
            return foreign
        weights = await self._sampler_path(agent, parent)
        lessons = await self._parts.teaching.lessons(agent, prepared.recorded, weights=weights)
        if lessons.num_taught or self._preparing.rewards_teach(prepared):
            return lessons
        return await asyncio.to_thread(self._preparing.leave_untaught, agent, prepared)

    async def _train(
        self, agent: str, parent: int, update_id: int, prepared: Prepared, run: TrainingRun, lessons: Lessons
    ) -> Candidate | Rejected | Waiting:
        try:
            return await self._trained(agent, parent, update_id, prepared, run, lessons)
        except RefusedDataError as error:
            await self._live.drop(agent)
            groups = build_groups(prepared.recorded, self._rules.update)
            refused = await refused_turns(self._live, agent, parent, groups)
            if not refused or len(refused) == len(prepared.turns):
                return await self._reject(update_id, prepared, str(error), {})
            self._claims.give_back(agent, update_id, error)
            return await asyncio.to_thread(self._preparing.leave_refused, agent, refused, str(error))

    async def _trained(
        self, agent: str, parent: int, update_id: int, prepared: Prepared, run: TrainingRun, lessons: Lessons
    ) -> Candidate | Rejected:
        seconds = defaultdict[str, float](float)
        rolled = await self._rolled_out(agent, parent, prepared, seconds)
        drawn = [rolled_out(a.prompt, a.tokens, a.temperature, a.advantage, version=parent) for a in rolled.answers]
        groups = build_groups([*prepared.recorded, *drawn], self._rules.update)
        weighed = await self._stepper.weigh(run, groups, parent=parent, seconds=seconds, lessons=lessons)
        if weighed.is_mostly_masked:
            reason = _MOSTLY_MASKED.format(len(weighed.masked), weighed.num_turns)
            return await self._reject(update_id, prepared, reason, {**weighed.numbers, "seconds": seconds})
        made, shortened = await self._stepped(agent, parent, prepared, weighed, lessons, seconds)
        metrics: dict[str, object] = {
            **made.numbers,
            **weighed.numbers,
            **rolled.numbers,
            **_of_batch(prepared.batch),
            "num_sequences": float(sum(len(group.data) for group in groups)),
            "shortened": shortened,
            "excluded": dict(prepared.excluded),
            "seconds": seconds,
        }
        if made.refused is not None:
            await self._live.drop(agent)  # its weights took the refused step
            return await self._reject(update_id, prepared, made.refused.reason, metrics, weighed.masked, weighed.heard)
        run = self._live[agent]
        with timed(seconds, "save"):
            saved = await self._saving.save(agent, run, f"{agent}-v{prepared.number}-u{update_id}")
        candidate = Candidate(
            parent=parent, prepared=prepared, saved=saved, base_model=run.base_model, masked=tuple(weighed.masked),
            lessons=tuple(replace(one, change=made.changes.get(one.turn)) for one in weighed.heard),
            metrics=metrics, seconds=seconds,
        )  # fmt: skip
        self._candidates[agent] = candidate
        return candidate

    async def _stepped(
        self, agent: str, parent: int, prepared: Prepared, weighed: Corrected, lessons: Lessons, seconds: Seconds
    ) -> tuple[Stepped, int]:
        """The steps, taken back and made shorter while they go too far; how often they were."""
        run, shortened = self._live[agent], 0
        peak = await self._stepper.peak_rate(run.base_model)
        rates = warming(self._rules.update, peak, updates=prepared.updates)
        while True:
            made = await self._stepper.step(
                run, weighed.groups, parent=parent, rates=rates, seconds=seconds, limits=lessons.limits
            )
            if made.refused is None or not made.refused.shorter or shortened == MAX_SHORTENED:
                return made, shortened
            # Taken back by going to the parent's saved state again: an optimiser step cannot be undone in place.
            await self._live.drop(agent)
            run = await self._live.resumed(agent, parent)
            rates = tuple(rate * made.refused.shorter for rate in rates)
            shortened += 1

    async def _examine(self, agent: str, update_id: int, candidate: Candidate) -> Outcome:
        metrics = {**candidate.metrics, "examination_parts_kept": float(len(candidate.finished))}
        with timed(candidate.seconds, "warm"):
            await self._live[agent].warm(candidate.saved.sampler_path)
        with timed(candidate.seconds, "gate"):
            examined = await self._parts.gate.examine(await self._new_weights(agent, update_id, candidate))
        metrics.update(examined.numbers)
        if examined.refused is not None:
            self._discard(agent)
            await self._live.drop(agent)
            heard = [replace(one, change=None) for one in candidate.lessons]
            return await self._reject(update_id, candidate.prepared, examined.refused, metrics, candidate.masked, heard)
        version = await self._commit(update_id, candidate, metrics)
        self._live.became(agent, version.version)
        return version

    async def _rolled_out(self, agent: str, parent: int, prepared: Prepared, seconds: Seconds) -> RolledOut:
        if self._parts.rollouts is None:
            return RolledOut()
        with timed(seconds, "rollouts"):
            return await self._parts.rollouts.draw(await self._sampler_path(agent, parent), prepared.turns)

    async def _sampler_path(self, agent: str, version: int) -> str | None:
        if version == BASE_VERSION:
            return None
        return (await asyncio.to_thread(self._journal.version, agent, version)).sampler_path

    async def _new_weights(self, agent: str, update_id: int, candidate: Candidate) -> NewWeights:
        return NewWeights(
            agent=agent,
            update_id=update_id,
            parent_path=await self._sampler_path(agent, candidate.parent),
            path=candidate.saved.sampler_path,
            turns=candidate.prepared.turns,
            finished=candidate.finished,
        )

    async def _commit(self, update_id: int, candidate: Candidate, metrics: Mapping[str, object]) -> Version:
        def commit() -> Version:
            return self._journal.commit(
                update_id,
                candidate.version,
                number=candidate.prepared.number,
                baseline=candidate.prepared.batch.baseline_after,
                metrics=json_safe(metrics),
                masked=candidate.masked,
                lessons=candidate.lessons,
                canary_share=self._rules.canary_share,
            )

        version = await asyncio.to_thread(commit)
        del self._candidates[version.agent]
        how = f"is tried on {self._rules.canary_share:.0%} of new sessions" if self._rules.canary_share else "serves"
        _log.info("%s@%d %s: update %d %s", version.agent, version.version, how, update_id, json_safe(metrics))
        return version

    async def _reject(
        self,
        update_id: int,
        prepared: Prepared,
        reason: str,
        metrics: Mapping[str, object],
        masked: Sequence[str] = (),
        lessons: Sequence[TaughtTurn] = (),
    ) -> Rejected:
        def reject() -> None:
            self._journal.reject(
                update_id,
                reason,
                baseline=prepared.batch.baseline_after,
                metrics=json_safe(metrics),
                masked=masked,
                lessons=lessons,
            )

        await asyncio.to_thread(reject)
        _log.warning("update %d is rejected: %s", update_id, reason)
        return Rejected(update_id=update_id, reason=reason)

    def _give_up(self, agent: str, update_id: int, error: BaseException) -> None:
        """Give the samples back; keep the candidate where only the time for it, its judge or the journal was away."""
        is_open = self._claims.give_back(agent, update_id, error)
        if is_open and isinstance(error, asyncio.CancelledError | JudgeAwayError | JournalError):
            return
        self._discard(agent)  # a version keeps its weights whatever is said of them here


def _of_batch(batch: Batch) -> dict[str, float]:
    return {
        "reward_mean": batch.mean_reward,
        "baseline": batch.baseline_after.value,
        "num_exchanges": float(len(batch.surprise)),
        "num_turns": float(len(batch.samples)),
    }
