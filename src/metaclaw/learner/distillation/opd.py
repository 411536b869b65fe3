"""On-policy distillation: a teacher is asked about what the policy said.

Owns who is asked about which turns, once each, and what that took; refuses to know what becomes of the answers.
Invariant: a teacher that cannot be asked is an error, which delays the update and nothing else; a turn that it does not
take is untaught, which is counted; one whose tokens mean something else to it teaches nothing. What was paid for is
kept in the journal, so that nobody pays for it again, killed processes included.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from metaclaw.config import OpdSettings
from metaclaw.errors import NotFoundError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.teacher_words import Heard
from metaclaw.learner.datums import Floats, TrainingTurn, chains
from metaclaw.learner.distillation.endpoint import RefusedTokensError, Scored, ScoringEndpoint, TeacherError
from metaclaw.learner.distillation.lessons import Lesson
from metaclaw.learner.distillation.vocabularies import difference
from metaclaw.learner.gathering import gathered
from metaclaw.learner.spending import Spending

_log = logging.getLogger(__name__)

_AT_ONCE = 4
_MOST_NAMED = 200  # tokens whose texts are compared
_BASE = "base"
_KEPT_AS = "<f4"


class OtherVocabularyError(TeacherError):
    """The teacher's tokens are not the policy's."""

    code = "teacher_vocabulary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Who teaches. ``own`` is the training server's endpoint; a teacher elsewhere has its tokens compared with it."""

    endpoint: ScoringEndpoint
    own: ScoringEndpoint
    journal: LearningJournal
    spending: Spending | None  # of one elsewhere

    @property
    def is_elsewhere(self) -> bool:
        return self.endpoint is not self.own


@dataclass(slots=True)
class _Told:
    """What was said of the turns of one agent's update, by turn (``None``: it is not taken), and what that took."""

    turns: dict[str, Floats | None] = field(default_factory=dict[str, "Floats | None"])
    num_tokens: int = 0
    usd: float | None = 0.0

    def of(self, turns: Collection[str]) -> _Told:
        """What is known of ``turns``: an update that is tried again may have lost some, and have got others."""
        known = {turn: told for turn, told in self.turns.items() if turn in turns}
        return replace(self, turns=known) if known else _Told()

    @property
    def numbers(self) -> dict[str, float]:
        taught = sum(told is not None for told in self.turns.values())
        numbers = {
            "opd/taught_turns": float(taught),
            "opd/untaught_turns": float(len(self.turns) - taught),
            "opd/teacher_tokens": float(self.num_tokens),
        }
        return numbers | ({} if self.usd is None else {"opd/teacher_usd": self.usd})


class OnPolicyDistillation:
    """Remembers what it was told of an agent's update, so that an attempt that failed later is not asked for twice."""

    def __init__(self, teacher: Teacher, settings: OpdSettings, version: tuple[str, int] | None = None) -> None:
        self._teacher = teacher
        self._settings = settings
        self._version = version  # of our own, where it teaches
        self._told: dict[str, _Told] = {}
        self._has_same_vocabulary = not teacher.is_elsewhere

    async def lesson(self, agent: str, turns: Sequence[TrainingTurn], *, weights: str | None = None) -> Lesson:
        """What the teacher says of ``turns`` of ``agent``, whatever its ``weights``. Raises ``TeacherError``."""
        del weights
        told = self._told[agent] = await self._known(agent, turns)
        model = await self._model()
        waiting = chains([turn for turn in turns if turn.turn not in told.turns])
        while waiting and not self._has_same_vocabulary:  # before all others are paid for
            await self._ask(agent, model, waiting.pop(0), told)
        await gathered(_AT_ONCE, [lambda chain=chain: self._ask(agent, model, chain, told) for chain in waiting])
        return Lesson(
            method="opd",
            teacher=self._name,
            weight=self._settings.weight,
            max_gap=self._settings.max_gap,
            taught={turn: one for turn, one in told.turns.items() if one is not None},
            numbers=told.numbers,
        )

    @property
    def _name(self) -> str:
        return f"{self._settings.model} at {self._settings.url or 'the training server'}"

    async def _known(self, agent: str, turns: Sequence[TrainingTurn]) -> _Told:
        """What was said of ``turns``: to this process, or, where it was paid for, to one that was killed since."""
        names = {turn.turn for turn in turns}
        told = self._told.get(agent, _Told()).of(names)
        if self._teacher.spending is None:
            return told
        kept = await asyncio.to_thread(self._teacher.spending.book.kept, self._name, names)
        words: dict[str, Floats | None] = {turn: np.frombuffer(one, _KEPT_AS) for turn, one in kept.words.items()}
        return _Told(turns=told.turns | words, num_tokens=kept.tokens, usd=kept.cost_usd)

    async def _model(self) -> str | None:
        asked = self._settings.model
        if self._teacher.is_elsewhere:
            return asked
        if asked == _BASE:
            return None
        if self._version is None:
            return asked
        try:
            found = await asyncio.to_thread(self._teacher.journal.version, *self._version)
        except NotFoundError as error:
            raise TeacherError(f"rl.opd.model is {asked!r}, and {error}") from error
        if found.deleted_at is not None:
            raise TeacherError(
                f"rl.opd.model is {asked!r}, whose weights were deleted before it was to teach: name a version that has"
                " some (`metaclaw policy list`), or a `tinker://` path"
            )
        return found.sampler_path

    async def _ask(self, agent: str, model: str | None, chain: Sequence[TrainingTurn], told: _Told) -> None:
        """One request for turns that continue one another: nobody pays for their prefix twice."""
        tokens, first, spending = chain[-1].all_tokens, chain[0].num_prompt_tokens, self._teacher.spending
        own_names = await self._own_names(tokens[first:])
        if spending is not None:
            await spending.require_left()
        try:
            scored = await self._teacher.endpoint.score(model, tokens, first=first)
        except RefusedTokensError as error:
            _log.info("%d turns stay untaught: %s", len(chain), error)
            told.turns |= dict.fromkeys((turn.turn for turn in chain), None)
            return
        apart = None if self._has_same_vocabulary else difference(own_names, scored.names)
        said = dict[str, Floats]() if apart is not None else _by_turn(chain, scored.logprobs)
        told.turns |= said  # before it is written down, which a full disk can prevent
        told.num_tokens += scored.took.total
        if spending is not None:
            price = await self._record(agent, scored, said, spending)
            told.usd = None if price is None or told.usd is None else told.usd + price
        if apart is not None:
            raise OtherVocabularyError(
                f"{self._settings.model}, {self._teacher.endpoint.name}, does not read the policy's tokens: {apart}."
                " Its word counts token by token: name one with the same tokenizer in rl.opd.model (a larger"
                " model of the same family), or take opd out of rl.update.methods"
            )
        self._has_same_vocabulary = True

    async def _own_names(self, tokens: Sequence[int]) -> Mapping[int, str]:
        """What some of ``tokens`` are at the training server, once. It is asked first: if it is away, nobody pays."""
        if self._has_same_vocabulary:
            return {}
        some = sorted(set(tokens))[:_MOST_NAMED]
        return (await self._teacher.own.score(None, [*some[:1], *some], first=1)).names

    async def _record(self, agent: str, scored: Scored, said: Mapping[str, Floats], spending: Spending) -> float | None:
        """Write down what an answer took and, in the same transaction, what it said; return its price."""
        words = {turn: np.ascontiguousarray(one, _KEPT_AS).tobytes() for turn, one in said.items()}
        return await spending.record(
            "teaching",
            agent,
            None if scored.is_estimate else scored.took,
            estimate=scored.took,
            heard=Heard(teacher=self._name, words=words),
        )


def _by_turn(chain: Sequence[TrainingTurn], logprobs: Floats) -> dict[str, Floats]:
    """``logprobs`` from the first answer of ``chain`` on, as those of each answer."""
    found, first = dict[str, Floats](), chain[0].num_prompt_tokens
    for turn in chain:
        start = turn.num_prompt_tokens - first
        found[turn.turn] = logprobs[start : start + turn.num_tokens]
    return found
