"""Several sources of a verdict, in a stated order.

Owns who goes before whom; refuses to know how any source judges. Invariant: the first source in the order that has an
opinion decides; one that fails stops the judging there, so that an outage never changes whose rewards an agent learns
from. What a source says for comparison alone can neither decide nor fail anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metaclaw.errors import JudgeError
from metaclaw.learner.judges.judge import Exchange, Judge, Opinion, Verdict

FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A judge and what it is called in ``rl.judge.precedence``."""

    name: str
    judge: Judge


class FeedbackJudge:
    """What a person said of the exchange outright. It has no opinion where nobody did."""

    name = FEEDBACK
    needs_followup = False

    async def judge(self, exchange: Exchange) -> Verdict:
        return Verdict(score=exchange.feedback)


class CombinedJudge:
    """``sources`` in their order. With ``compares``, judges are asked too where a person has decided before them."""

    def __init__(self, sources: Sequence[Source], *, compares: bool) -> None:
        self._sources = tuple(sources)
        self._compares = compares
        own = [source.judge.name for source in sources if source.name != FEEDBACK]
        self.name = " > ".join(own) or FEEDBACK
        self.needs_followup = any(source.judge.needs_followup for source in sources)

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(source.name for source in self._sources)

    async def judge(self, exchange: Exchange) -> Verdict:
        silent = list[str]()
        for place, source in enumerate(self._sources):
            verdict = await source.judge.judge(exchange)
            if verdict.score is None:
                silent.append(source.name)
                continue
            opinions = (_opinion(source, verdict, verdict.score),)
            if source.name == FEEDBACK and self._compares:
                opinions += await self._for_comparison(exchange, self._sources[place + 1 :])
            detail = {**verdict.detail, "source": source.name}
            return replace(verdict, judge=source.judge.name, detail=detail, opinions=opinions)
        return Verdict(score=None, detail={"silent": silent})

    async def _for_comparison(self, exchange: Exchange, sources: Sequence[Source]) -> tuple[Opinion, ...]:
        for source in sources:
            try:
                verdict = await source.judge.judge(exchange)
            except JudgeError:
                return ()  # there is a reward already; the next exchange says as much of the judge
            if verdict.score is not None:
                return (_opinion(source, verdict, verdict.score),)
        return ()


def _opinion(source: Source, verdict: Verdict, score: float) -> Opinion:
    return Opinion(source=source.name, judge=source.judge.name, score=score, detail=verdict.detail)
