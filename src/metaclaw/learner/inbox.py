"""Which exchanges are to be judged now.

Owns when an exchange is complete and which of its turns are trainable; refuses to know judges. Invariant: what is due
follows from the two journals alone, never from a stored cursor, so an exchange is neither missed nor judged twice.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import JournalError
from metaclaw.journal.ended_sessions import EndedSession, EndedSessions
from metaclaw.journal.learning import Clock, LearningJournal
from metaclaw.journal.learning_records import Judgement, Sample
from metaclaw.journal.turns import RecordedExchange, TurnReader
from metaclaw.learner.exchanges import beginnings_after, follows, is_calling, whole_exchange
from metaclaw.learner.exclusions import exclusion
from metaclaw.learner.gate.held_out import HELD_OUT, is_held_out
from metaclaw.learner.judges.judge import Exchange

_log = logging.getLogger(__name__)

_PAGE = 100
_MAX_DOUBLINGS = 30  # days of outages would overflow a float
# A tool may run for long, or wait for its user's leave over night. A verdict in the middle would be one on work that
# goes on, and the turns that follow would be learned from by nobody.
_CALL_IDLE_S = 12 * 3600.0
_MAX_ENDED = 10_000  # sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a judge that failed is asked again: answers of no use are counted, outages only slow it down."""

    max_attempts: int = 5
    first_s: float = 30.0
    longest_s: float = 3600.0
    max_age_s: float = 7 * 86_400.0  # an older exchange could not be trained on any more

    def is_over(self, judgement: Judgement, age_s: float) -> bool:
        """Whether the exchange stays without a verdict for good."""
        num_answers = judgement.attempts - judgement.outages
        return num_answers >= self.max_attempts or age_s > self.max_age_s or bool(judgement.detail.get("no_opinion"))

    def is_resting(self, judgement: Judgement, now: float) -> bool:
        """Whether it is too early to ask again; a clock that was set back does not make that longer."""
        doublings = min(judgement.attempts - 1, _MAX_DOUBLINGS)
        return 0 <= now - judgement.judged_at < min(self.longest_s, self.first_s * 2**doublings)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueExchange:
    """An exchange to judge, with its trainable turns and the others counted by the rule that excludes them."""

    exchange: Exchange
    turns: tuple[TrainableTurn, ...]
    excluded: Counter[str]

    def samples(self, reward: float) -> list[Sample]:
        """The samples that a verdict makes of the turns: the reward is the exchange's, so each turn gets it."""
        return [
            Sample(
                turn=turn.id,
                exchange=self.exchange.id,
                agent=self.exchange.agent,
                version=turn.version,
                reward=reward,
                sampled_at=turn.sampled_at,
            )
            for turn in self.turns
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableTurn:
    """A turn that may be trained on, and the version that sampled it."""

    id: str
    version: int
    sampled_at: float


class Inbox:
    """Reads what the gateway recorded. One thread at a time may use it."""

    def __init__(
        self,
        *,
        turns_db: Path,
        journal: LearningJournal,
        needs_followup: bool,
        idle_s: float,
        is_trained: Callable[[str], bool] = bool,  # every agent has a name
        held_out_share: float = 0.0,
        retry: RetryPolicy | None = None,
        ended: EndedSessions | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._turns_db = turns_db
        self._journal = journal
        self._needs_followup = needs_followup
        self._is_trained = is_trained
        self._held_out_share = held_out_share
        self._idle_s = idle_s
        self._retry = retry or RetryPolicy()
        self._clock = clock
        self._ended = ended
        self._ended_at: dict[tuple[str, str], float] = {}  # sessions of which a client said that they are done
        self._is_deaf = False
        self._settled_seq = 0  # nothing is left to do up to this turn; found again after a restart
        self._settled: dict[str, int] = {}  # exchanges after that of which nothing is left, by their last turn
        self._passed: dict[str, int] = {}  # of those that wait for a tool, up to which turn nothing goes on from them

    def due(self, limit: int) -> list[DueExchange]:
        """At most ``limit`` exchanges that are complete, hold a trainable turn, and wait for a verdict.

        For an agent that is not trained, an answered turn is enough: failures are known by it. It gets no samples.
        """
        if not self._turns_db.exists():
            return []
        self._hear_of_ends()
        found, all_settled = list[DueExchange](), True
        with TurnReader.open(self._turns_db) as reader:
            for name, last_seq, judgement in self._scan(reader):
                due = self._looked_at(reader, name, judgement) if self._settled.get(name) != last_seq else _SETTLED
                all_settled = all_settled and due == _SETTLED
                if isinstance(due, DueExchange):
                    found.append(due)
                if all_settled:
                    self._settled_seq = last_seq
                    self._settled.pop(name, None)
                elif due == _SETTLED:
                    self._settled[name] = last_seq
                if len(found) == limit:
                    break
        return found

    def given_up(self, exchange_id: str) -> DueExchange | None:
        """An exchange that no judge could score, as if it were due, unless it is too old or has nothing to learn."""
        judgement = self._journal.judgements([exchange_id]).get(exchange_id)
        if judgement is None or judgement.state == "judged" or not self._turns_db.exists():
            return None
        with TurnReader.open(self._turns_db) as reader:
            recorded = reader.exchange(exchange_id)
            if recorded is None or self._clock() - recorded.turns[-1].opened_at > self._retry.max_age_s:
                return None
            due = self._due(reader, recorded, None)
        return due if isinstance(due, DueExchange) else None

    def _scan(self, reader: TurnReader) -> Iterator[tuple[str, int, Judgement | None]]:
        after = self._settled_seq
        while page := reader.exchange_ids(after_seq=after, limit=_PAGE):
            judgements = self._journal.judgements([name for name, _ in page])
            for name, last_seq in page:
                yield name, last_seq, judgements.get(name)
            after = page[-1][1]

    def _looked_at(self, reader: TurnReader, name: str, judgement: Judgement | None) -> DueExchange | str | None:
        recorded = reader.exchange(name)
        if recorded is None or self._is_settled(recorded, judgement):
            due = _SETTLED
        else:
            due = self._due(reader, recorded, judgement)
        if due == _SETTLED:
            self._passed.pop(name, None)
        return due

    def _is_settled(self, recorded: RecordedExchange, judgement: Judgement | None) -> bool:
        age_s = self._clock() - recorded.turns[-1].opened_at
        if judgement is None:  # what was said before there was a judge is not paid for, unless it is to be trained on
            return not self._is_trained(recorded.agent) and age_s > self._retry.max_age_s
        return judgement.state == "judged" or self._retry.is_over(judgement, age_s)

    def _due(
        self, reader: TurnReader, recorded: RecordedExchange, judgement: Judgement | None
    ) -> DueExchange | str | None:
        """The exchange if it is due, ``None`` if it is not yet, ``_SETTLED`` if it never will be."""
        now = self._clock()
        if not self._is_complete(reader, recorded, now):
            return None
        if judgement is not None and self._retry.is_resting(judgement, now):
            return None
        is_trained = self._is_trained(recorded.agent)
        turns, excluded = _trainable(reader, recorded) if is_trained else ((), Counter[str]())
        if turns and is_held_out(recorded.id, self._held_out_share):
            turns, excluded = (), excluded + Counter({HELD_OUT: len(turns)})
        is_answered = any(turn.state == "done" and turn.answer is not None for turn in recorded.turns)
        if not turns and (is_trained or not is_answered):
            if excluded:
                _log.info("%s: exchange %s is not learned from: %s", recorded.agent, recorded.id, dict(excluded))
            return _SETTLED
        exchange = whole_exchange(reader, recorded, with_followup=self._needs_followup)
        return DueExchange(exchange=exchange, turns=turns, excluded=excluded)

    def _is_complete(self, reader: TurnReader, recorded: RecordedExchange, now: float) -> bool:
        if recorded.is_open:
            return False
        last, idle_s = recorded.turns[-1], self._idle_s
        if is_calling(last):
            if recorded.has_later and self._is_gone_on_from(reader, recorded):
                return True
            if not reader.feedback(recorded.id):  # who has said what he thinks of it waits for nothing more
                idle_s = max(idle_s, _CALL_IDLE_S)
        elif recorded.has_later or (not self._needs_followup and last.state == "done") or self._has_ended(recorded):
            return True
        # What closed so long from now was recorded before the clock was set back: nobody knows when that was.
        return recorded.closed_at is not None and abs(now - recorded.closed_at) >= idle_s

    def _hear_of_ends(self) -> None:
        for one in self._heard():
            self._ended_at.pop((one.agent, one.session), None)
            self._ended_at[one.agent, one.session] = one.at
            if len(self._ended_at) > _MAX_ENDED:
                del self._ended_at[next(iter(self._ended_at))]

    def _heard(self) -> list[EndedSession]:
        """What clients said; nothing while that cannot be read, since silence tells the same later."""
        try:
            heard = [] if self._ended is None else self._ended.heard()
        except JournalError as error:
            if not self._is_deaf:
                _log.warning("sessions that are called done wait for rl.judge.idle_s as others do: %s", error)
            self._is_deaf = True
            return []
        self._is_deaf = False
        return heard

    def _has_ended(self, recorded: RecordedExchange) -> bool:
        """Whether a client said after this exchange that nothing more comes; it may go on with another all the same."""
        ended_at = self._ended_at.get((recorded.agent, recorded.session))
        return ended_at is not None and recorded.closed_at is not None and recorded.closed_at <= ended_at

    def _is_gone_on_from(self, reader: TurnReader, recorded: RecordedExchange) -> bool:
        """Whether the human said something to an agent whose call was not answered."""
        for turn in beginnings_after(reader, recorded, after_seq=self._passed.get(recorded.id, 0)):
            if follows(reader, turn, recorded):
                return True
            self._passed[recorded.id] = turn.seq  # a long session is not read again each second
        return False


_SETTLED = "nothing is left to do"


def _trainable(reader: TurnReader, recorded: RecordedExchange) -> tuple[tuple[TrainableTurn, ...], Counter[str]]:
    turns, excluded = list[TrainableTurn](), Counter[str]()
    for turn in recorded.turns:
        sample = reader.sample(turn.id)
        if sample is None:
            continue  # another model answered
        rule = exclusion(sample) if turn.state == "done" else f"turn_{turn.state}"
        if rule is None:
            turns.append(TrainableTurn(id=turn.id, version=sample.version, sampled_at=turn.opened_at))
        else:
            excluded[rule] += 1
    return tuple(turns), excluded
