"""A learner's surroundings for skills: both journals, a skills folder, scripted models, a deterministic verifier."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaclaw.chat.messages import text_of
from metaclaw.chat.usage import TokenCounts
from metaclaw.errors import UpstreamError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.skill_records import Candidate, Evolution, NewCandidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.failures import FailureFinder
from metaclaw.learner.judges.judge import Exchange, Verdict
from metaclaw.learner.skills.answerers import Answered
from metaclaw.learner.skills.evolving import Evolving, EvolvingParts, EvolvingRule
from metaclaw.learner.skills.proving import Proving, ProvingParts, ProvingRule
from metaclaw.learner.skills.shelf import Shelf
from metaclaw.learner.skills.sifting import Meanings
from metaclaw.learner.skills.views import LearnersSkills
from metaclaw.recall.composing import Budget
from metaclaw.recall.sizes import Measuring
from metaclaw.skills.library import SkillLibrary
from metaclaw.skills.trial.verdicts import TrialRule
from metaclaw.upstreams.structured import JsonForm, StructuredAnswer

NOW = 1_000_000.0


@dataclass
class ScriptedEvolver:
    """Answers with what it is given, the last for ever."""

    answers: list[str | UpstreamError] = field(default_factory=lambda: ['{"skills": []}'])
    asked: list[Sequence[dict[str, Any]]] = field(default_factory=list)
    model: str = "big"
    usage: TokenCounts | None = None

    async def ask(self, messages: Sequence[dict[str, Any]], form: JsonForm) -> StructuredAnswer:
        self.asked.append(messages)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, UpstreamError):
            raise answer
        return StructuredAnswer(text=answer, model=self.model, usage=self.usage)


@dataclass
class ScriptedAnswerer:
    """``reply`` makes an answer of the text of the human's messages, with what was recalled in it."""

    reply: Callable[[str], str]
    asked: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    cost_usd: float | None = None
    error: UpstreamError | None = None

    async def answer(self, agent: str, request: dict[str, Any]) -> Answered:
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        text = "\n".join(text_of(one["content"]) for one in request["messages"] if one["role"] == "user")
        self.asked.append(text)
        said = self.reply(text)
        message: dict[str, Any] = {"role": "assistant", "content": said}
        if said.startswith("call "):
            function = {"name": said.removeprefix("call "), "arguments": "{}"}
            message |= {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}
        tokens = TokenCounts(prompt=100, completion=10)
        return Answered(message=message, finish_reason="stop", tokens=tokens, cost_usd=self.cost_usd)


@dataclass
class RightAnswers:
    """A deterministic verifier: the answer is 'right', or it is not. It sees the answer alone, not the arm."""

    name: str = "right"
    needs_followup: bool = False
    seen: list[Exchange] = field(default_factory=list)

    async def judge(self, exchange: Exchange) -> Verdict:
        self.seen.append(exchange)
        return Verdict(score=1.0 if exchange.answer == "right" else -1.0)


@dataclass
class World:
    turns: TurnJournal
    learning: LearningJournal
    trials: SkillTrials
    folder: Path
    turns_db: Path
    skills: LearnersSkills
    failures: FailureFinder
    time: list[float]
    judge: RightAnswers = field(default_factory=RightAnswers)

    def evolving(self, evolver: ScriptedEvolver, *, meanings: Meanings | None = None, **rule: Any) -> Evolving:
        parts = EvolvingParts(
            trials=self.trials, failures=self.failures, evolver=evolver, skills=self.skills,
            meanings=meanings, cost=_cost, new_id=iter(map(str, range(1000))).__next__, new_fence=lambda: "FENCE",
        )  # fmt: skip
        return Evolving(parts, EvolvingRule(**rule), clock=lambda: self.time[0])

    def proving(
        self,
        answerer: ScriptedAnswerer | None,
        *,
        seed: int = 0,
        measuring: Measuring | None = None,
        **rule: Any,
    ) -> Proving:
        parts = ProvingParts(
            turns_db=self.turns_db, trials=self.trials, skills=self.skills, shelf=Shelf(self.folder),
            budget=Budget(max_tokens=1200, max_skills=2, max_memories=0), judge=self.judge, answerer=answerer,
            chance=random.Random(seed), measuring=measuring,
        )  # fmt: skip
        rule = {"trial": TrialRule(), "replays_per_hour": 10_000, **rule}
        return Proving(parts, ProvingRule(**rule), clock=lambda: self.time[0])

    def propose(self, *names: str) -> list[Candidate]:
        """Candidates that fit what is asked about their names, and nothing else."""
        new = [
            NewCandidate(
                id=f"id-{name}",
                agent="main",
                name=name,
                description=f"Use for {name} charts.",
                body=f"How to do {name} well.",
                base=None,
                why="",
                author="big",
                exchanges=("failed",),
                turns=("t",),
            )
            for name in names
        ]
        self.trials.record_evolution(Evolution(agent="main", author="big", num_failures=1), new)
        return [self.candidate(name) for name in names]

    def candidate(self, name: str) -> Candidate:
        with self.trials.reading() as reader:
            return reader.candidates(name=name)[-1]


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    time = [NOW]

    def clock() -> float:
        return time[0]

    learning_db, turns_db, folder = tmp_path / "learning.db", tmp_path / "turns.db", tmp_path / "skills"
    with LearningJournal.open(learning_db, clock) as learning, SkillTrials.open(learning_db, clock) as trials:
        async with TurnJournal(turns_db) as turns:
            yield World(
                turns=turns,
                learning=learning,
                trials=trials,
                folder=folder,
                turns_db=turns_db,
                skills=LearnersSkills(SkillLibrary(folder, clock=iter(range(0, 10**9, 2)).__next__), trials),
                failures=FailureFinder(turns_db=turns_db, judgements=learning, trials=trials, clock=clock),
                time=time,
            )


def _cost(model: str, tokens: TokenCounts) -> float | None:
    return tokens.total / 1000 if model == "priced" else None
