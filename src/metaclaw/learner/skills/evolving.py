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
from metaclaw.learner.skills.sifting import Meanings, Repeat, sift
from metaclaw.learner.skills.views import EvolvableSkills
from metaclaw.skills.evolution.proposals import Draft, Proposed, answer_schema, read_answer
from metaclaw.skills.evolution.questions import Failure, edits_instead, question
from metaclaw.skills.skill import Skill
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
    """What the job works with. ``cost`` reckons what an answer of a model cost, ``None`` when nobody knows; without
    ``meanings`` proposals are compared by words alone.
    """

    trials: SkillTrials
    failures: FailureFinder
    evolver: Evolver
    skills: Skills
    meanings: Meanings | None = None
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
        fence = parts.new_fence()
        messages = question(told, existing=existing, editable=skills.editable, max_new=self._rule.max_new, fence=fence)
        run = Evolution(agent=agent, author=parts.evolver.model, num_failures=len(told))
        try:
            answer = await parts.evolver.ask(messages, _FORM)
        except UpstreamError as error:  # nothing was learned of the failures: they are told again
            _log.warning("%s: no skill was written: %s", agent, error)
            return await self._record(replace(run, error=str(error)), [], seen=())
        run = self._counted(run, answer)
        try:
            proposed = self._read(answer, skills.editable, skills, len(told))
        except EvolverError as error:
            _log.warning("%s: no skill was written: %s", agent, error)
            return await self._record(replace(run, error=str(error)), [], seen=seen)
        drafts, repeats = await sift(proposed.drafts, skills, parts.meanings)
        run = replace(run, refused=(*proposed.refused, *(repeat.reason for repeat in repeats)))
        if becoming := _may_become_edits(repeats, drafts, skills):
            again = edits_instead(messages, answer.text, {one.draft.skill.name: one.other for one in becoming}, fence)
            run, edits = await self._edits(run, answer, again, [one.other for one in becoming], skills, drafts)
            drafts = [*drafts, *edits]
        return await self._record(run, [self._candidate(agent, draft, told) for draft in drafts], seen=seen)

    async def _edits(
        self,
        run: Evolution,
        first: StructuredAnswer,
        messages: Sequence[JsonObject],
        near: Sequence[Skill],
        skills: EvolvableSkills,
        drafts: Sequence[Draft],
    ) -> tuple[Evolution, list[Draft]]:
        """What proposals that repeat the skills ``near`` become: edits of these. It is asked once."""
        try:
            answer = await self._parts.evolver.ask(messages, _FORM)
            run = self._counted(run, first, answer)
            proposed = self._read(answer, near, skills, run.num_failures)
        except (UpstreamError, EvolverError) as error:
            _log.warning("%s: what repeats another skill did not become an edit of it: %s", run.agent, error)
            return run, []
        edits = [draft for draft in proposed.drafts if draft.base is not None]
        kept, repeats = await sift(edits, skills, self._parts.meanings, taken=drafts)
        return replace(run, refused=(*run.refused, *proposed.refused, *(repeat.reason for repeat in repeats))), kept

    def _read(
        self, answer: StructuredAnswer, editable: Sequence[Skill], skills: EvolvableSkills, num_failures: int
    ) -> Proposed:
        return read_answer(
            answer.text,
            editable={skill.name: skill for skill in editable},
            taken=[skill.name for skill in (*skills.all, *skills.on_trial)],
            num_failures=num_failures,
            max_new=self._rule.max_new,
        )

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

    def _counted(self, run: Evolution, *answers: StructuredAnswer) -> Evolution:
        """``run`` with what all answers took. Where nobody knows it of one, nobody knows it of all."""
        usages = [answer.usage for answer in answers if answer.usage is not None]
        if len(usages) < len(answers):
            return replace(run, prompt_tokens=None, completion_tokens=None, cost_usd=None)
        costs = [self._parts.cost(answer.model, usage) for answer, usage in zip(answers, usages, strict=True)]
        known = [cost for cost in costs if cost is not None]
        return replace(
            run,
            prompt_tokens=sum(usage.prompt for usage in usages),
            completion_tokens=sum(usage.completion for usage in usages),
            cost_usd=sum(known) if len(known) == len(costs) else None,
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


def _may_become_edits(repeats: Sequence[Repeat], drafts: Sequence[Draft], skills: EvolvableSkills) -> list[Repeat]:
    """Those new skills that repeat one which may be edited, and which no other draft edits."""
    editable = {skill.name for skill in skills.editable} - {draft.skill.name for draft in drafts}
    return [one for one in repeats if one.draft.base is None and one.other.name in editable]
