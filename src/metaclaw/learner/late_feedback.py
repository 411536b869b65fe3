"""What a person says of an exchange after it was judged.

Owns noticing it and whether it goes before who judged; refuses to know what becomes of samples (the journal does).
Invariant: what a person said is noticed although nothing of it is stored here, also after a restart, because an
exchange whose recorded word of a person is not the newest one is looked at again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from metaclaw.journal.learning import Clock, LearningJournal
from metaclaw.journal.learning_records import Judgement
from metaclaw.journal.opinions import LateFeedback as Late
from metaclaw.journal.opinions import OpinionBook
from metaclaw.journal.turn_records import Feedback
from metaclaw.journal.turns import TurnReader
from metaclaw.learner.inbox import DueExchange, Inbox
from metaclaw.learner.judges.combined import FEEDBACK

_log = logging.getLogger(__name__)

_PAGE = 500
_WAITS_S = 14 * 86_400.0  # for a verdict; by then an exchange is too old to be trained on


class LateFeedback:
    """Looks at what came since it last looked. One thread at a time may use it."""

    def __init__(
        self,
        *,
        turns_db: Path,
        journal: LearningJournal,
        book: OpinionBook,
        inbox: Inbox,
        precedence: Sequence[str],
        clock: Clock = time.time,
    ) -> None:
        self._turns_db = turns_db
        self._journal = journal
        self._book = book
        self._inbox = inbox
        self._precedence = tuple(precedence)
        self._clock = clock
        self._last_id = 0
        self._waiting: dict[str, Feedback] = {}  # the newest score of an exchange that has no verdict yet

    def notice(self) -> list[DueExchange]:
        """Let what was said late count; return the exchanges that no judge could score, to be judged by it now."""
        if not self._turns_db.exists():
            return []
        newest = self._waiting | self._new()
        judgements = self._journal.judgements(list(newest))
        known = self._book.opinions(FEEDBACK, list(newest))
        self._waiting = {}
        again = list[DueExchange]()
        for exchange, given in newest.items():
            judgement = judgements.get(exchange)
            if judgement is not None and judgement.state == "judged":
                if known.get(exchange) != given.score:
                    self._revise(given, judgement)
            elif (due := self._inbox.given_up(exchange)) is not None:
                again.append(due)
            elif self._clock() - given.created_at < _WAITS_S:
                self._waiting[exchange] = given
        return again

    def _new(self) -> dict[str, Feedback]:
        newest = dict[str, Feedback]()
        with TurnReader.open(self._turns_db) as reader:
            while page := reader.feedback_after(self._last_id, limit=_PAGE):
                self._last_id = page[-1].id
                newest |= {one.exchange: one for one in page if one.exchange is not None and one.score is not None}
        return newest

    def _revise(self, given: Feedback, judgement: Judgement) -> None:
        assert given.score is not None
        revised = self._book.revise(
            Late(
                feedback=given.id,
                exchange=judgement.exchange,
                agent=judgement.agent,
                score=given.score,
                decides=self._goes_before(judgement),
            )
        )
        if revised is not None:
            _log.info(
                "%s: feedback after the verdict on exchange %s: %d rewards changed, %d in an update, %d too late",
                judgement.agent, judgement.exchange, revised.num_changed, revised.num_claimed, revised.num_spent,
            )  # fmt: skip

    def _goes_before(self, judgement: Judgement) -> bool:
        decided = judgement.detail.get("source")
        if decided not in self._precedence:  # by an older release, or by what is not set up any more
            return self._precedence[0] == FEEDBACK
        return self._precedence.index(FEEDBACK) <= self._precedence.index(decided)
