"""Which exchanges failed, and who says so.

Owns the three signs (a judge's score, a person's feedback, a human who corrects) and how a failure is told; refuses to
know what is learned from it. Invariant: without a sign nothing is a failure (PITFALLS B5-1: every turn was one), and
what failed is found again after a restart from the journals alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import RecordedExchange, TurnReader
from metaclaw.learner.exchanges import whole_exchange
from metaclaw.learner.judges.material import cut, steps_of
from metaclaw.skills.evolution.corrections import is_correction
from metaclaw.skills.evolution.questions import Failure

WORST_SCORE = 0.0  # below it, a judge says that an exchange failed
MAX_AGE_S = 7 * 86_400.0
_PAGE = 100
_MAX_CHARS = 4_000


class FailureFinder:
    """Looks at what came since it last looked. One thread at a time may use it."""

    def __init__(
        self,
        *,
        turns_db: Path,
        judgements: LearningJournal,
        trials: SkillTrials,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._turns_db = turns_db
        self._judgements = judgements
        self._trials = trials
        self._clock = clock
        self._complained: dict[str, str] = {}  # exchange -> agent: what persons said against, and is not used yet
        self._last_turn: int | None = None
        self._last_feedback = 0

    def waiting(self) -> dict[str, list[str]]:
        """The exchanges that failed and that no evolver has seen, by agent."""
        if not self._turns_db.exists():
            return {}
        with TurnReader.open(self._turns_db) as turns:
            self._read_feedback(turns)
            self._read_corrections(turns)
        with self._trials.reading() as reader:
            for exchange in reader.is_evidence(list(self._complained)):
                del self._complained[exchange]
            judged = reader.bad_exchanges(below=WORST_SCORE, since=self._clock() - MAX_AGE_S)
        found: dict[str, list[str]] = {}
        for exchange, agent in {**{one: agent for agent, one in judged}, **self._complained}.items():
            found.setdefault(agent, []).append(exchange)
        return found

    def told(self, exchanges: Sequence[str]) -> list[Failure]:
        """Those of ``exchanges`` that have an answer, with all that an evolver is shown of them."""
        with TurnReader.open(self._turns_db) as turns:
            found = [turns.exchange(exchange) for exchange in exchanges]
            return [self._told(turns, recorded) for recorded in found if recorded is not None and _is_over(recorded)]

    def _read_feedback(self, turns: TurnReader) -> None:
        while page := turns.feedback_after(self._last_feedback, limit=_PAGE):
            self._last_feedback = page[-1].id
            for given in page:
                is_recent = given.created_at >= self._clock() - MAX_AGE_S
                if given.exchange is not None and given.score is not None and given.score < 0 and is_recent:
                    self._complained[given.exchange] = given.agent

    def _read_corrections(self, turns: TurnReader) -> None:
        if self._last_turn is None:
            self._last_turn = turns.seq_at(self._clock() - MAX_AGE_S)
        while page := turns.exchanges(after_seq=self._last_turn, limit=_PAGE):
            self._last_turn = page[-1].turns[-1].seq
            for recorded in page:
                if is_correction(recorded.human) and (wrong := turns.exchange_before(recorded)) is not None:
                    self._complained[wrong.id] = wrong.agent

    def _told(self, turns: TurnReader, recorded: RecordedExchange) -> Failure:
        exchange = whole_exchange(turns, recorded, with_followup=True)
        parts = [("The human's request", exchange.prompt)]
        if steps := steps_of(exchange.messages):
            parts.append(("What the agent did on the way", steps))
        parts.append(("The agent's answer", exchange.answer))
        if exchange.followup is not None:
            parts.append(("The human's next message", exchange.followup))
        if said := "\n".join(given.text for given in turns.feedback(recorded.id) if given.text):
            parts.append(("What a person said of it", said))
        judgement = self._judgements.judgements([recorded.id]).get(recorded.id)
        if judgement is not None and judgement.score is not None:
            parts.append(("Its score, from -1 to 1", f"{judgement.score:g}"))
        return Failure(
            exchange=exchange.id,
            turns=exchange.turn_ids,
            request=exchange.prompt,
            parts=tuple((title, cut(text, _MAX_CHARS)) for title, text in parts),
        )


def _is_over(recorded: RecordedExchange) -> bool:
    return not recorded.is_open and any(turn.state == "done" for turn in recorded.turns)
