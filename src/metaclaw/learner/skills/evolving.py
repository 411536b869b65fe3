"""The job that has skills written from failures.

Owns when an evolver is asked, and that what it proposes goes on trial; refuses to know who says that something failed
and how a skill is tried. Invariant: an evolver is asked about failures alone, each once, at most so often as the
settings say; whatever comes of it is recorded with what it cost, and nothing that it proposes is served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.usage import TokenCounts
from metaclaw.errors import EvolverError, UpstreamError
from metaclaw.journal.skill_records import BaseSkill, Evolution, NewCandidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.learner.failures import FailureFinder
from metaclaw.learner.skills.views import EvolvableSkills
from metaclaw.skills.evolution.novelty import TOO_ALIKE, nearest
from metaclaw.skills.evolution.proposals import Draft, Proposed, answer_schema, read_answer
from metaclaw.skills.evolution.questions import Failure, question
from metaclaw.upstreams.structured import JsonForm, StructuredAnswer

_log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_FORM = JsonForm(name="skill_proposals", schema=answer_schema())


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolvingRule:
    """How much must have failed before an evolver is asked, and how often it is."""

    min_failures: int = 3
    max_failures: int = 8  # that are shown at once
    max_new: int = 2
    min_pause_s: float = 1800.0
    max_per_day: int = 12


class Evolver(Protocol):
    """The slice of a ``StructuredModel`` that is used."""

    model: str

    async def ask(self, messages: Sequence[JsonObject], form: JsonForm) -> StructuredAnswer: ...


class Skills(Protocol):
    """What there is already."""

    async def evolvable(self, agent: str) -> EvolvableSkills: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolvingParts:
    """What the job works with. ``cost`` reckons what an answer of a model cost, ``None`` when nobody knows."""

    trials: SkillTrials
    failures: FailureFinder
    evolver: Evolver
    skills: Skills
    cost: Callable[[str, TokenCounts], float | None]
    new_id: Callable[[], str]
    new_fence: Callable[[], str]


class Evolving:
    """Asks for skills, agent by agent."""

    name = "evolving skills"
    poll_s = 30.0

    def __init__(self, parts: EvolvingParts, rule: EvolvingRule, clock: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._rule = rule
        self._clock = clock

    async def step(self) -> bool:
        """Ask about each agent whose failures are enough; return whether anybody was asked."""
        worked = False
        for agent, exchanges in (await asyncio.to_thread(self._parts.failures.waiting)).items():
            if len(exchanges) >= self._rule.min_failures and self._may_ask(agent):
                await self.evolve(agent, exchanges[: self._rule.max_failures])
                worked = True
        return worked

    async def evolve(self, agent: str, exchanges: Sequence[str]) -> str:
        """Ask about these failures now; return what came of it, in a sentence."""
        told = await asyncio.to_thread(self._parts.failures.told, exchanges)
        if not told:
            run = Evolution(agent=agent, author=self._parts.evolver.model, num_failures=0)
            await asyncio.to_thread(self._parts.trials.record_evolution, run, seen=exchanges)
            return "nothing is left of the exchanges that failed"
        skills = await self._parts.skills.evolvable(agent)
        return await self._ask(agent, exchanges, told, skills)

    async def _ask(self, agent: str, seen: Sequence[str], told: Sequence[Failure], skills: EvolvableSkills) -> str:
        parts = self._parts
        existing = skills.nearest_first(" ".join(failure.request for failure in told))
        messages = question(
            told, existing=existing, editable=skills.editable, max_new=self._rule.max_new, fence=parts.new_fence()
        )
        run = Evolution(agent=agent, author=parts.evolver.model, num_failures=len(told))
        try:
            answer = await parts.evolver.ask(messages, _FORM)
        except UpstreamError as error:  # nothing was learned of the failures: they are told again
            _log.warning("%s: no skill was written: %s", agent, error)
            return await self._record(replace(run, error=str(error)), [], seen=())
        run = self._counted(run, answer)
        try:
            proposed = read_answer(
                answer.text,
                editable={skill.name: skill for skill in skills.editable},
                taken=[skill.name for skill in (*skills.all, *skills.on_trial)],
                num_failures=len(told),
                max_new=self._rule.max_new,
            )
        except EvolverError as error:
            _log.warning("%s: no skill was written: %s", agent, error)
            return await self._record(replace(run, error=str(error)), [], seen=seen)
        drafts, alike = _without_alike(proposed, skills)
        candidates = [self._candidate(agent, draft, told) for draft in drafts]
        run = replace(run, refused=(*proposed.refused, *alike))
        return await self._record(run, candidates, seen=seen)

    async def _record(self, run: Evolution, candidates: Sequence[NewCandidate], *, seen: Sequence[str]) -> str:
        await asyncio.to_thread(self._parts.trials.record_evolution, run, candidates, seen=seen)
        names = ", ".join(candidate.name for candidate in candidates) or "nothing"
        outcome = run.error or f"of {run.num_failures} failures came {names}"
        for reason in run.refused:
            _log.info("%s: a proposal was refused: %s", run.agent, reason)
        _log.info("%s: %s", run.agent, outcome)
        return outcome

    def _may_ask(self, agent: str) -> bool:
        now = self._clock()
        with self._parts.trials.reading() as reader:
            lately = reader.evolutions(agent, since=now - _DAY_S)
        if len(lately) >= self._rule.max_per_day:
            return False
        return not lately or now - lately[0][0] >= self._rule.min_pause_s

    def _counted(self, run: Evolution, answer: StructuredAnswer) -> Evolution:
        usage = answer.usage
        if usage is None:
            return run
        return replace(
            run,
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            cost_usd=self._parts.cost(answer.model, usage),
        )

    def _candidate(self, agent: str, draft: Draft, told: Sequence[Failure]) -> NewCandidate:
        failures = [told[number - 1] for number in draft.failures]
        base = draft.base
        return NewCandidate(
            id=self._parts.new_id(),
            agent=agent,
            name=draft.skill.name,
            description=draft.skill.description,
            body=draft.skill.body,
            base=None if base is None else BaseSkill(description=base.description, body=base.body),
            why=draft.why,
            author=self._parts.evolver.model,
            exchanges=tuple(failure.exchange for failure in failures),
            turns=tuple(turn for failure in failures for turn in failure.turns),
        )


def _without_alike(proposed: Proposed, skills: EvolvableSkills) -> tuple[list[Draft], list[str]]:
    """The drafts that say something new, and why the others do not."""
    drafts: list[Draft] = []
    refused: list[str] = []
    for draft in proposed.drafts:
        base = draft.base.name if draft.base else None
        others = [skill for skill in (*skills.all, *skills.on_trial, *skills.turned_down) if skill.name != base]
        others += [other.skill for other in drafts]
        found = nearest(draft.skill, others)
        if found is not None and found[1] >= TOO_ALIKE:
            refused.append(f"{draft.skill.name}: it says what {found[0].name} says ({found[1]:.2f} alike)")
        else:
            drafts.append(draft)
    return drafts, refused
