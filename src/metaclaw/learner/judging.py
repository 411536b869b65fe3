"""The job that judges what was said.

Owns the asking and the recording of verdicts; refuses to know how a judge comes to one. Invariant: a judge that fails
leaves an exchange unjudged, which is recorded, and is never a reward of zero; a verdict that cannot be recorded yet is
kept, since it may have been paid for.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from metaclaw.errors import JudgeError, MetaClawError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.opinions import SourceOpinion
from metaclaw.learner.inbox import DueExchange, Inbox
from metaclaw.learner.judges.judge import Judge, JudgeUnavailableError, Verdict
from metaclaw.learner.late_feedback import LateFeedback

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingPace:
    """How often is looked, and how much is judged at a time."""

    poll_s: float = 1.0
    at_once: int = 8
    page: int = 64


class Judging:
    """Judges what is due."""

    name = "judging"

    def __init__(
        self,
        *,
        journal: LearningJournal,
        inbox: Inbox,
        judge: Judge,
        late: LateFeedback | None = None,
        pace: JudgingPace | None = None,
    ) -> None:
        self._journal = journal
        self._inbox = inbox
        self._judge = judge
        self._late = late
        self._pace = pace or JudgingPace()
        self._unrecorded: dict[str, Verdict] = {}  # by exchange, which stays due until then

    @property
    def poll_s(self) -> float:
        return self._pace.poll_s

    async def step(self) -> bool:
        """Judge what is due; return whether there was anything.

        Raises ``JournalError`` when something of it could not be recorded; the others are judged all the same.
        """
        due = await asyncio.to_thread(self._due)
        at_once = asyncio.Semaphore(self._pace.at_once)
        ends = await asyncio.gather(*(self._judge_one(one, at_once) for one in due), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end
        return bool(due)

    def _due(self) -> list[DueExchange]:
        late = self._late.notice() if self._late is not None else []
        known = {one.exchange.id for one in late}
        return late + [one for one in self._inbox.due(self._pace.page) if one.exchange.id not in known]

    async def _judge_one(self, due: DueExchange, at_once: asyncio.Semaphore) -> None:
        exchange = due.exchange
        async with at_once:
            try:
                verdict = self._unrecorded.get(exchange.id) or await self._judge.judge(exchange)
            except JudgeError as error:
                is_outage = isinstance(error, JudgeUnavailableError)
                await self._record_failure(
                    due, {"error": str(error), "cause": error.code}, is_outage=is_outage, error=error
                )
                return
        if verdict.score is None:
            await self._record_failure(
                due, {"no_opinion": True, "cause": "no_opinion", **verdict.detail}, is_outage=False
            )
            return
        score, detail = verdict.score, {**verdict.detail, "excluded": dict(due.excluded)}

        def record() -> None:
            self._journal.record_verdict(
                exchange=exchange.id,
                agent=exchange.agent,
                judge=verdict.judge or self._judge.name,
                score=score,
                detail=detail,
                samples=due.samples(score),
                opinions=[
                    SourceOpinion(source=one.source, judge=one.judge, score=one.score, detail=one.detail)
                    for one in verdict.opinions
                ],
            )

        self._unrecorded[exchange.id] = verdict
        await asyncio.to_thread(record)
        del self._unrecorded[exchange.id]

    async def _record_failure(
        self, due: DueExchange, detail: dict[str, object], *, is_outage: bool, error: MetaClawError | None = None
    ) -> None:
        def record() -> int:
            return self._journal.record_failure(
                exchange=due.exchange.id,
                agent=due.exchange.agent,
                judge=self._judge.name,
                detail=detail,
                is_outage=is_outage,
            )

        attempts = await asyncio.to_thread(record)
        if error is not None:
            _log.warning("exchange %s is unjudged after attempt %d: %s", due.exchange.id, attempts, error)
