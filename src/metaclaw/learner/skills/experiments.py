"""What experiments show.

Owns reading the rewards of both arms; refuses to know what follows from them. Invariant: whether an exchange counts,
and for which arm, follows from the message and the candidate alone, never from what was recalled in the end: whoever
drew the skill and was not given it for want of room still counts as drawn.

An exchange is looked at when it comes, and after that only its reward is waited for: a look costs what is new, not what
came since the experiment began. What is remembered is found again from both journals after a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.journal.skill_records import Candidate, Comparison
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import RecordedExchange, TurnReader, exchange_key
from metaclaw.learner.skills.replays import RecallWith
from metaclaw.recall.blocks import human_messages
from metaclaw.skills.trial.arms import is_served

_PAGE = 100


@dataclass(slots=True)
class _Seen:
    """Of one experiment: the newest turn that was looked at, what counts and has no reward yet (with its message), and
    the messages that were counted."""

    after: int
    waiting: dict[str, bytes] = field(default_factory=dict[str, bytes])
    known: set[str] = field(default_factory=set[str])
    keys: set[str] = field(default_factory=set[str])


class Observing:
    """Looks at all experiments; any thread may ask it, for a command may ask beside the job."""

    def __init__(self, turns_db: Path, trials: SkillTrials) -> None:
        self._turns_db = turns_db
        self._trials = trials
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def keep(self, candidates: Collection[str]) -> None:
        """Forget all others."""
        with self._lock:
            self._seen = {one: seen for one, seen in self._seen.items() if one in candidates}

    def observe(self, candidate: Candidate, recall: RecallWith) -> bool:
        """Record the rewards that came in since last time; return whether there were any."""
        if candidate.experiment is None or not self._turns_db.exists():
            return False
        with self._lock:
            return self._observe(candidate, candidate.experiment.since, recall)

    def _observe(self, candidate: Candidate, since: float, recall: RecallWith) -> bool:
        with TurnReader.open(self._turns_db) as turns:
            seen = self._seen.get(candidate.id)
            if seen is None:
                seen = self._seen[candidate.id] = self._begin(turns, candidate, since)
            self._look(turns, seen, candidate, recall)
        with self._trials.reading() as reader:
            scores = reader.scores(list(seen.waiting))
        counted = [self._count(seen, candidate, exchange, score) for exchange, score in scores.items()]
        return any(counted)

    def _begin(self, turns: TurnReader, candidate: Candidate, since: float) -> _Seen:
        with self._trials.reading() as reader:
            known = {one.exchange for one in reader.comparisons(candidate.id)}
        return _Seen(after=turns.seq_at(since), known=known, keys={exchange_key(one) for one in known} - {""})

    def _look(self, turns: TurnReader, seen: _Seen, candidate: Candidate, recall: RecallWith) -> None:
        assert candidate.experiment is not None
        while page := turns.exchanges(after_seq=seen.after, agent=candidate.agent, limit=_PAGE):
            for recorded in page:
                is_new = recorded.id not in seen.known and recorded.id not in seen.waiting
                if is_new and recorded.turns[0].opened_at >= candidate.experiment.since and recall.fits(recorded.human):
                    message = _message(turns, recorded)
                    if message is not None:
                        seen.waiting[recorded.id] = message
            seen.after = page[-1].turns[-1].seq

    def _count(self, seen: _Seen, candidate: Candidate, exchange: str, score: float) -> bool:
        assert candidate.experiment is not None
        message = seen.waiting.pop(exchange)
        key = exchange_key(exchange)
        seen.known.add(exchange)
        if key and key in seen.keys:
            return False  # the same message in the same place again was drawn once, so it counts once
        seen.keys.add(key)
        served = is_served(candidate.id, message, candidate.experiment.share)
        self._trials.compare(
            Comparison(
                candidate=candidate.id,
                exchange=exchange,
                kind="experiment",
                fits=True,
                with_score=score if served else None,
                without_score=None if served else score,
            )
        )
        return True


def _message(turns: TurnReader, recorded: RecordedExchange) -> bytes | None:
    humans = human_messages(turns.messages(recorded.turns[0]), recorded.session)
    return humans[-1].key.hash if humans else None
