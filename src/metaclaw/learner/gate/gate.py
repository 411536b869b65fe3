"""The examination of a version that does not serve yet.

Owns its order: answers are drawn, held against the limits, and compared in pairs until it is decided or the budget is
used up; refuses to know how any of that is done. Invariant: a version passes only within every limit and, where there
are enough held-out exchanges, only with evidence that it is not worse by the margin; without a judge it waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, TypeVar

from metaclaw.config import GateSettings
from metaclaw.errors import JudgeError
from metaclaw.learner.gate.answers import Drawer, Drawn, RefusedPromptError
from metaclaw.learner.gate.examination import Examination, GateWaitsError, JudgeAwayError, NewWeights
from metaclaw.learner.gate.inferiority import Comparison, compare
from metaclaw.learner.gate.limits import measure_limits
from metaclaw.learner.gate.pairs import AnsweredPair, Scored
from metaclaw.learner.gate.questions import Question
from metaclaw.learner.gathering import gathered
from metaclaw.learner.judges.judge import JudgeUnavailableError, NoOpinionError
from metaclaw.learner.judges.pairs import PairJudge, answered

_log = logging.getLogger(__name__)

AT_ONCE = 8
_ROUND = 8  # pairs between two looks at the evidence
_FEWEST = 8  # pairs that the limits say anything on

T = TypeVar("T")


class QuestionSource(Protocol):
    """Where questions come from."""

    def held_out(self, agent: str) -> list[Question]: ...

    def of_turns(self, turns: Sequence[str]) -> list[Question]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One question and both answers to it."""

    number: int
    question: Question
    served: Drawn
    candidate: Drawn


class Gate:
    """Examines one version at a time."""

    def __init__(self, *, questions: QuestionSource, drawer: Drawer, judge: PairJudge, settings: GateSettings) -> None:
        self._questions = questions
        self._drawer = drawer
        self._judge = judge
        self._settings = settings

    async def examine(self, new: NewWeights) -> Examination:
        """Examine ``new``, from where it was interrupted if it was.

        Raises ``BackendError`` when that cannot be done now: it must not serve then.
        """
        settings = self._settings
        held_out = await new.finished.once("held out", 0, lambda: self._held_out(new.agent))
        numbers: dict[str, object] = {"gate/held_out": float(len(held_out))}
        is_judged = len(held_out) >= settings.min_exchanges
        asked = held_out
        if not is_judged:
            note = (
                f"not enough held-out exchanges: {len(held_out)} of {settings.min_exchanges}; the limits alone decide"
            )
            numbers["gate/note"] = note
            _log.info("%s: %s", new.agent, note)
            asked = [*held_out, *await new.finished.once("trained on", 0, lambda: self._trained_on(new.turns))]
        if not asked:
            return Examination(refused="no recorded prompt is left to examine it on", numbers=numbers)
        draws = _Draws(self._drawer, new, asked, settings)
        pairs = await draws.more(settings.min_answers)
        if len(pairs) < _FEWEST:
            raise GateWaitsError(
                f"the training server refuses all but {len(pairs)} of {draws.num_asked} recorded prompts, "
                "which is too few to examine a version on"
            )
        scored = await self._each(new, "scored", pairs, lambda pair: self._scored(new, pair))
        measured = measure_limits(scored, settings)
        numbers |= {f"gate/{name}": value for name, value in measured.numbers.items()}
        numbers |= {"gate/answers": float(len(pairs)), "gate/tokens": float(draws.num_tokens)}
        if measured.broken:
            return Examination(refused="; ".join(measured.broken), numbers=numbers)
        if not is_judged:
            return Examination(refused=None, numbers=numbers)
        return await self._compared(new, pairs, draws, numbers)

    async def _held_out(self, agent: str) -> list[Question]:
        return await asyncio.to_thread(self._questions.held_out, agent)

    async def _trained_on(self, turns: Sequence[str]) -> list[Question]:
        return await asyncio.to_thread(self._questions.of_turns, turns)

    async def _each(
        self, new: NewWeights, part: str, pairs: Sequence[_Pair], call: Callable[[_Pair], Awaitable[T]]
    ) -> list[T]:
        def once(pair: _Pair) -> Awaitable[T]:
            return new.finished.once(part, pair.number, lambda: call(pair))

        return await gathered(AT_ONCE, [lambda pair=pair: once(pair) for pair in pairs])

    async def _compared(
        self, new: NewWeights, pairs: list[_Pair], draws: _Draws, numbers: dict[str, object]
    ) -> Examination:
        settings = self._settings
        differences, void, waiting = list[float](), Counter[str](), list(pairs)
        verdict = compare(differences, margin=settings.margin, error=settings.error)
        while verdict.outcome == "undecided":
            waiting += [] if waiting else await draws.more(_ROUND)
            if not waiting:
                break
            now, waiting = waiting[:_ROUND], waiting[_ROUND:]
            found = await self._each(new, "difference", now, self._difference)
            differences += [one for one in found if not isinstance(one, str)]
            void.update(one for one in found if isinstance(one, str))
            if void["failed"] > max(_ROUND, len(differences)):
                raise GateWaitsError(f"{self._judge.name} could compare {len(differences)} of the first "
                                     f"{len(differences) + void['failed']} pairs only")  # fmt: skip
            verdict = compare(differences, margin=settings.margin, error=settings.error)
        numbers |= {
            "gate/judged": float(len(differences)),
            "gate/void": float(void["failed"]),
            "gate/no_opinion": float(void["no opinion"]),
            "gate/tokens": float(draws.num_tokens),
            "gate/mean_difference": verdict.mean,
            "gate/evidence": min(verdict.evidence, 1e300),
        }
        return Examination(refused=self._refused(verdict, len(differences)), numbers=numbers)

    def _refused(self, verdict: Comparison, count: int) -> str | None:
        seen = f"{verdict.mean:+.2f} over {count} blind pairs, margin {self._settings.margin:g} (rl.gate.margin)"
        if verdict.outcome == "worse":
            return f"it is worse than the serving version: {seen}"
        if verdict.outcome == "undecided":
            return f"nothing shows that it is not worse, and the replay budget is used up: {seen}"
        return None

    async def _scored(self, new: NewWeights, pair: _Pair) -> AnsweredPair:
        prompt = pair.question.prompt

        async def scored(answer: Drawn, weights: str | None) -> Scored:
            known: dict[str | None, tuple[float, ...]] = {}
            for path in (weights, new.parent_path, None):
                if path not in known:
                    known[path] = await self._drawer.score(path, prompt, answer.tokens)
            return Scored(drawn=answer, own=known[weights], serving=known[new.parent_path], base=known[None])

        return AnsweredPair(
            prompt=prompt,
            asked=pair.question.exchange.prompt,
            served=await scored(pair.served, new.parent_path),
            candidate=await scored(pair.candidate, new.path),
        )

    async def _difference(self, pair: _Pair) -> float | Literal["no opinion", "failed"]:
        """How much better the candidate's answer is, or why the judge cannot say."""
        ours, theirs = pair.candidate, pair.served
        if (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason):
            return 0.0
        exchange = pair.question.exchange
        try:
            return await self._judge.prefer(
                answered(exchange, ours.text, ours.finish_reason), answered(exchange, theirs.text, theirs.finish_reason)
            )
        except JudgeUnavailableError as error:
            raise JudgeAwayError(f"a new version waits for its judge: {error}") from error
        except NoOpinionError:
            return "no opinion"
        except JudgeError as error:
            _log.info("a pair of %s could not be compared: %s", exchange.id, error)
            return "failed"


class _Draws:
    """Draws pairs of answers within the budget. Questions are drawn with replacement, each time with another seed."""

    def __init__(self, drawer: Drawer, new: NewWeights, asked: Sequence[Question], settings: GateSettings) -> None:
        self._drawer = drawer
        self._new = new
        self._asked = asked
        self._settings = settings
        self._chance = Random(f"{new.agent} {new.update_id}")
        self.num_asked = 0
        self.num_tokens = 0

    async def more(self, count: int) -> list[_Pair]:
        """``count`` further pairs, in place of prompts that are refused others; fewer when the budget is used up."""
        pairs = list[_Pair]()
        while (missing := min(count - len(pairs), self._num_left)) > 0:
            pairs += await self._drawn(missing)
        return pairs

    @property
    def _num_left(self) -> int:
        is_over = self.num_tokens >= self._settings.max_tokens
        return 0 if is_over else self._settings.max_replays - self.num_asked

    async def _drawn(self, count: int) -> list[_Pair]:
        drawn = [(self._chance.choice(self._asked), self._chance.randrange(2**31)) for _ in range(count)]
        numbered = list(enumerate(drawn, self.num_asked))
        found = await gathered(
            AT_ONCE, [lambda number=number, one=one: self._once(number, *one) for number, one in numbered]
        )
        pairs = [pair for pair in found if pair is not None]
        self.num_asked += len(found)
        self.num_tokens += sum(len(pair.served.tokens) + len(pair.candidate.tokens) for pair in pairs)
        return pairs

    async def _once(self, number: int, question: Question, seed: int) -> _Pair | None:
        return await self._new.finished.once("pair", number, lambda: self._pair(number, question, seed))

    async def _pair(self, number: int, question: Question, seed: int) -> _Pair | None:
        async def draw(weights: str | None) -> Drawn:
            return await self._drawer.draw(
                weights, question.prompt, temperature=question.temperature, max_tokens=question.max_tokens, seed=seed
            )

        try:
            served, candidate = await draw(self._new.parent_path), await draw(self._new.path)
        except RefusedPromptError as error:
            _log.info("exchange %s is not asked again: %s", question.exchange.id, error)
            return None
        return _Pair(number=number, question=question, served=served, candidate=candidate)
