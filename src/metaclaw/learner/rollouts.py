"""Several answers to one recorded prompt, drawn inside an update by the policy that it starts from.

Owns drawing, judging and their cap; refuses to know tokens' weights and what is recorded. Invariant: an answer counts
only against answers to the same prompt that were drawn by the same version and judged in the same way; a judge that
fails costs its answer and never the update.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from metaclaw.config import Settings, UpdateSettings
from metaclaw.errors import JudgeError
from metaclaw.journal.learning import LearningJournal
from metaclaw.learner.advantages.group import within_group
from metaclaw.learner.exclusions import MIN_TEMPERATURE
from metaclaw.learner.gate.answers import Drawer, Drawn, EndpointDrawer, RefusedPromptError
from metaclaw.learner.gate.questions import Question, Questions
from metaclaw.learner.gathering import gathered
from metaclaw.learner.judges.judge import Judge
from metaclaw.learner.judges.pairs import answered
from metaclaw.upstreams.configured import training_server
from metaclaw.upstreams.http_model import HttpModel

_log = logging.getLogger(__name__)

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledAnswer:
    """One answer of a group, and how much better than the group's mean it was."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    temperature: float
    advantage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledOut:
    """What there is to learn from, and the numbers of an update's metrics."""

    answers: tuple[RolledAnswer, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict[str, float])


class QuestionSource(Protocol):
    """Where prompts come from."""

    def of_turns(self, turns: Sequence[str]) -> list[Question]: ...


class Rollouts:
    """Draws groups for the prompts of an update."""

    def __init__(
        self,
        *,
        questions: QuestionSource,
        drawer: Drawer,
        judge: Judge,
        settings: UpdateSettings,
        new_seed: Callable[[], int] = lambda: secrets.randbelow(2**31),
    ) -> None:
        self._questions = questions
        self._drawer = drawer
        self._judge = judge
        self._settings = settings
        self._new_seed = new_seed

    async def draw(self, weights: str | None, turns: Sequence[str]) -> RolledOut:
        """Groups for the prompts that ``turns`` answered, oldest first, drawn from ``weights`` (``None``: the base).

        Raises ``BackendError`` when the training server cannot be asked now.
        """
        size = self._settings.group_size
        questions = await asyncio.to_thread(self._questions.of_turns, turns)
        # The last turn of an exchange may have been colder than one of it that is trained on, and such draws are not.
        warm = [question for question in questions if question.temperature >= MIN_TEMPERATURE]
        asked = warm[: self._settings.max_rollouts // size]
        places = [question for question in asked for _ in range(size)]
        drawn = await gathered(_AT_ONCE, [lambda one=one: self._drawn(weights, one) for one in places])
        scores = await gathered(
            _AT_ONCE, [lambda pair=pair: self._score(*pair) for pair in zip(places, drawn, strict=True)]
        )
        answers, num_equal, num_short = list[RolledAnswer](), 0, 0
        for place, question in enumerate(asked):
            group = slice(place * size, (place + 1) * size)
            pairs = zip(drawn[group], scores[group], strict=True)
            known = [(one, score) for one, score in pairs if one is not None and score is not None]
            advantages = within_group([score for _, score in known]) if known else ()
            if len(known) < 2:
                num_short += 1
            elif not any(advantages):
                num_equal += 1
            else:
                answers += [_rolled(question, one, value) for (one, _), value in zip(known, advantages, strict=True)]
        numbers = {
            "rollouts": float(sum(one is not None for one in drawn)),
            "rollout_groups": float(len(asked)),
            "rollout_groups_equal": float(num_equal),
            "rollout_groups_unjudged": float(num_short),
            "rollouts_trained": float(len(answers)),
        }
        return RolledOut(answers=tuple(answers), numbers=numbers)

    async def _drawn(self, weights: str | None, question: Question) -> Drawn | None:
        try:
            one = await self._drawer.draw(
                weights,
                question.prompt,
                temperature=question.temperature,
                max_tokens=question.max_tokens,
                seed=self._new_seed(),
            )
        except RefusedPromptError as error:
            _log.info("exchange %s is not answered again: %s", question.exchange.id, error)
            return None
        return one if one.tokens else None

    async def _score(self, question: Question, one: Drawn | None) -> float | None:
        if one is None:
            return None
        try:
            return (await self._judge.judge(answered(question.exchange, one.text, one.finish_reason))).score
        except JudgeError as error:
            _log.info("an answer drawn for exchange %s is not judged: %s", question.exchange.id, error)
            return None


def rollouts_for(
    settings: Settings, journal: LearningJournal, session: aiohttp.ClientSession, judge: Judge
) -> Rollouts | None:
    """What the settings ask for. ``session`` must stay open as long as it is used."""
    if settings.rl.update.advantage != "group":
        return None
    return Rollouts(
        questions=Questions(settings.turns_db, journal, settings.rl.gate),
        drawer=EndpointDrawer(HttpModel(session, training_server(settings))),
        judge=judge,
        settings=settings.rl.update,
    )


def _rolled(question: Question, one: Drawn, advantage: float) -> RolledAnswer:
    return RolledAnswer(
        prompt=question.prompt, tokens=one.tokens, temperature=question.temperature, advantage=advantage
    )
