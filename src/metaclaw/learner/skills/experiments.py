"""What experiments show.

Owns reading the rewards of both arms; refuses to know what follows from them. Invariant: whether an exchange counts,
and for which arm, follows from the message and the candidate alone, never from what was recalled in the end: whoever
drew the skill and was not given it for want of room still counts as drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from metaclaw.journal.skill_records import Candidate, Comparison
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import RecordedExchange, TurnReader, exchange_key
from metaclaw.learner.skills.replays import RecallWith
from metaclaw.recall.blocks import human_messages
from metaclaw.skills.trial.arms import is_served

_PAGE = 100


def observe_experiment(turns_db: Path, trials: SkillTrials, candidate: Candidate, recall: RecallWith) -> bool:
    """Record the rewards that came in since last time; return whether there were any."""
    experiment = candidate.experiment
    if experiment is None or not turns_db.exists():
        return False
    with trials.reading() as reader:
        known = {one.exchange for one in reader.comparisons(candidate.id)}
    keys = {exchange_key(exchange) for exchange in known}
    worked = False
    with TurnReader.open(turns_db) as turns:
        for recorded in _since(turns, candidate.agent, experiment.since):
            # The same message in the same place again was drawn once, so it counts once.
            key = exchange_key(recorded.id)
            if recorded.id in known or (key and key in keys) or not recall.fits(recorded.human):
                continue
            score = _score(trials, recorded.id)
            message = _message(turns, recorded)
            if score is None or message is None:
                continue
            keys.add(key)
            served = is_served(candidate.id, message, experiment.share)
            trials.compare(
                Comparison(
                    candidate=candidate.id,
                    exchange=recorded.id,
                    kind="experiment",
                    fits=True,
                    with_score=score if served else None,
                    without_score=None if served else score,
                )
            )
            worked = True
    return worked


def _since(turns: TurnReader, agent: str, since: float) -> Iterable[RecordedExchange]:
    after = turns.seq_at(since)
    while page := turns.exchanges(after_seq=after, agent=agent, limit=_PAGE):
        yield from (recorded for recorded in page if recorded.turns[0].opened_at >= since)
        after = page[-1].turns[-1].seq


def _message(turns: TurnReader, recorded: RecordedExchange) -> bytes | None:
    humans = human_messages(turns.messages(recorded.turns[0]), recorded.session)
    return humans[-1].key.hash if humans else None


def _score(trials: SkillTrials, exchange: str) -> float | None:
    with trials.reading() as reader:
        return reader.score(exchange)
