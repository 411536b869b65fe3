"""What versions are asked in an examination: recorded prompts of the agent.

Owns finding them; refuses to know versions and answers. Invariant: a question is the tokens that the policy saw at the
last turn of an exchange, which ended with an answer; those of another renderer than the newest are left out, because
to the model of now they would mean something else.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metaclaw.config import GateSettings
from metaclaw.journal.turns import RecordedExchange, TurnReader
from metaclaw.learner.exchanges import is_calling, whole_exchange
from metaclaw.learner.gate.held_out import is_held_out
from metaclaw.learner.judges.judge import Exchange

_DAY_S = 86_400.0
_MAX_QUESTIONS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt and how it is answered. ``exchange`` is what a judge sees, with another answer."""

    exchange: Exchange
    prompt: tuple[int, ...]
    temperature: float
    max_tokens: int


class Trained(Protocol):
    """The slice of a journal that is used."""

    def with_samples(self, exchanges: Sequence[str]) -> set[str]: ...


class Questions:
    """Reads ``turns.db``, and which exchanges were trained on: a share that was smaller once held out fewer."""

    def __init__(
        self, turns_db: Path, journal: Trained, settings: GateSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._turns_db = turns_db
        self._journal = journal
        self._settings = settings
        self._clock = clock

    def held_out(self, agent: str) -> list[Question]:
        """The newest held-out questions of ``agent``, newest first."""
        if not self._turns_db.exists():
            return []
        found = list[tuple[Question, str]]()
        with TurnReader.open(self._turns_db) as reader:
            after, ids = reader.seq_at(self._clock() - self._settings.max_age_days * _DAY_S), list[str]()
            while page := reader.exchange_ids(after_seq=after):
                ids += [name for name, _ in page if is_held_out(name, self._settings.held_out_share)]
                after = page[-1][1]
            trained = self._journal.with_samples(ids)
            for name in reversed([name for name in ids if name not in trained]):
                recorded = reader.exchange(name)
                if recorded is not None and recorded.agent == agent and (one := self._question(reader, recorded)):
                    found.append(one)
                if len(found) == _MAX_QUESTIONS:
                    break
        return [question for question, renderer in found if renderer == found[0][1]]

    def of_turns(self, turns: Sequence[str]) -> list[Question]:
        """The questions that ``turns`` answered, one an exchange."""
        with TurnReader.open(self._turns_db) as reader:
            recorded = [turn for turn in map(reader.turn, turns) if turn is not None]
            exchanges = [reader.exchange(name) for name in dict.fromkeys(turn.exchange for turn in recorded)]
            found = [self._question(reader, exchange) for exchange in exchanges if exchange is not None]
        return [one[0] for one in found if one is not None]

    def _question(self, reader: TurnReader, recorded: RecordedExchange) -> tuple[Question, str] | None:
        done = [turn for turn in recorded.turns if turn.state == "done"]
        if recorded.is_open or not done or is_calling(done[-1]):
            return None
        sample = reader.sample(done[-1].id)
        if sample is None or not sample.prompt_tokens:
            return None
        asked_for = done[-1].request.get("max_tokens") or done[-1].request.get("max_completion_tokens")
        limit = self._settings.max_answer_tokens
        question = Question(
            exchange=whole_exchange(reader, recorded, with_followup=False),
            prompt=tuple(array("i", sample.prompt_tokens)),
            temperature=sample.temperature,
            max_tokens=min(limit, asked_for) if isinstance(asked_for, int) and asked_for > 0 else limit,
        )
        return question, sample.renderer
