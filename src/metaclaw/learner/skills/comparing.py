"""One comparison: both requests of a replay answered, both answers judged.

Owns the order, which says nothing, and what makes a comparison void; refuses to know which exchange is next and what
follows. Invariant: an outage raises and leaves no trace, so the exchange is compared later; whatever else keeps it from
telling anything is in ``void``, and what the answers took is recorded in each case.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from metaclaw.errors import JudgeError, UpstreamError
from metaclaw.journal.skill_records import Comparison
from metaclaw.learner.judges.judge import Judge, JudgeUnavailableError
from metaclaw.learner.skills.answerers import Answered, Answerer
from metaclaw.learner.skills.replays import Replay

_OF_THIS_REQUEST = (400, 413, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """Who answers and who judges."""

    judge: Judge
    answerer: Answerer
    chance: random.Random

    async def compare(self, candidate: str, agent: str, replay: Replay, *, fits: bool) -> Comparison:
        """Have both requests answered and judged. Raises ``UpstreamError`` and ``JudgeUnavailableError``."""
        arms = [True, False]
        self.chance.shuffle(arms)
        found = Comparison(candidate=candidate, exchange=replay.exchange.id, kind="replay", fits=fits)
        answers: dict[bool, Answered] = {}
        for with_it in arms:
            outcome = await self._answer(agent, replay, with_it=with_it)
            if isinstance(outcome, str):
                return replace(_spent(found, list(answers.values())), void=outcome)
            answers[with_it] = outcome
        found = _spent(found, list(answers.values()))
        first, second = arms
        score = await self._score(replay, answers[first])
        # Of two equal answers a judge that is asked twice may think two things: that would be noise alone.
        other = score if answers[first].says_what(answers[second]) else await self._score(replay, answers[second])
        for one in (score, other):
            if isinstance(one, str):
                return replace(found, void=one)
        scores = {first: score, second: other}
        return replace(found, with_score=scores[True], without_score=scores[False])

    async def _answer(self, agent: str, replay: Replay, *, with_it: bool) -> Answered | str:
        try:
            return await self.answerer.answer(agent, replay.with_it if with_it else replay.without_it)
        except UpstreamError as error:
            if error.status not in _OF_THIS_REQUEST:
                raise  # an outage says nothing of this exchange: it is replayed later
            return f"it could not be asked again: {error}"[:300]

    async def _score(self, replay: Replay, answer: Answered) -> float | str:
        try:
            verdict = await self.judge.judge(replay.answered(answer))
        except JudgeUnavailableError:
            raise
        except JudgeError as error:
            return f"it could not be judged: {error}"[:300]
        return "the judge had no opinion" if verdict.score is None else verdict.score


def _spent(found: Comparison, answers: Sequence[Answered]) -> Comparison:
    tokens = [answer.tokens for answer in answers]
    known = [one for one in tokens if one is not None]
    costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
    is_known = len(known) == len(tokens)
    return replace(
        found,
        prompt_tokens=sum(one.prompt for one in known) if is_known else None,
        completion_tokens=sum(one.completion for one in known) if is_known else None,
        cost_usd=sum(costs) if len(costs) == len(answers) else None,
    )
