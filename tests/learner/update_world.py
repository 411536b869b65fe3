"""A policy that draws one token a turn, its learner with a trainer in memory, and what is recorded of both."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metaclaw.config import UpdateSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.distillation.teaching import Teaching
from metaclaw.learner.inbox import Inbox
from metaclaw.learner.rollouts import RolledAnswer, RolledOut
from metaclaw.learner.update import Updater
from metaclaw.learner.update_parts import UpdateParts, UpdateRules
from tests.fakes.gate import FakeGate
from tests.fakes.trainer import VOCABULARY, FakeTrainer, log_softmax
from tests.learner.recording import Said, policy_sample, record

SETTINGS = UpdateSettings(
    min_exchanges=4,
    min_informative=2,
    max_exchanges=16,
    learning_rate=0.05,
    warmup_steps=2,
    max_kl=0.05,
    steps=1,
    passes=1,
)


@dataclass
class Drawn:
    """Rollouts that always answer with the tokens 1 and 2, of which 1 is better."""

    asked: list[tuple[str | None, tuple[str, ...]]] = field(default_factory=list)
    failure: Exception | None = None

    async def draw(self, weights: str | None, turns: Sequence[str]) -> RolledOut:
        if self.failure is not None:
            raise self.failure
        self.asked.append((weights, tuple(turns)))
        answers = tuple(
            RolledAnswer(prompt=(0,), tokens=(token,), temperature=0.8, advantage=advantage)
            for token, advantage in ((1, 0.5), (2, -0.5))
        )
        return RolledOut(answers=answers, numbers={"rollouts": 2.0})


@dataclass
class World:
    """A policy that draws one token a turn, and a reward for odd ones."""

    folder: Path
    turns: TurnJournal
    learning: LearningJournal
    holds: PolicyHolds
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    gate: FakeGate = field(default_factory=FakeGate)
    numbers: itertools.count = field(default_factory=itertools.count)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def updater(
        self,
        *,
        rollouts: Drawn | None = None,
        teaching: Teaching | None = None,
        resume_from: str = "",
        canary_share: float = 0,
        teacher: tuple[str, int] | None = None,
        **changes,
    ) -> Updater:
        parts = UpdateParts(
            journal=self.learning,
            turns_db=self.folder / "turns.db",
            holds=self.holds,
            backend=self.trainer,
            gate=self.gate,
            rollouts=rollouts,
            teaching=teaching or Teaching(()),
        )
        rules = UpdateRules(
            update=SETTINGS.model_copy(update=changes),
            resume_from=resume_from,
            canary_share=canary_share,
            teacher=teacher,
        )
        return Updater(parts, rules, new_suffix=lambda: f"r{next(self.numbers)}", clock=lambda: 0.0)

    async def converse(
        self,
        count: int,
        *,
        rewards: Sequence[float] | None = None,
        temperature: float = 0.8,
        at: float = 0.0,
        off: float = 0.0,
    ) -> float:
        """Record ``count`` turns of the serving version with their verdicts; return their mean reward.

        The log-probabilities are recorded ``off`` by so much.
        """
        serving = self.learning.serving("main")
        path = self.learning.version("main", serving).sampler_path if serving else None
        logprobs_V = log_softmax(self.trainer.logits(path), temperature)
        inbox = Inbox(turns_db=self.folder / "turns.db", journal=self.learning, needs_followup=False, idle_s=1)
        scores = list[float]()
        for index in range(count):
            name = f"n{next(self.numbers)}"
            token = int(self.random.choice(VOCABULARY, p=np.exp(logprobs_V)))
            sample = policy_sample([0], [token], [logprobs_V[token] - off], temperature=temperature, version=serving)
            said = Said(turn=name, exchange=f"x{name}", session=name, sample=sample, opened_at=at)
            await record(self.turns, said)
            scores.append(rewards[index % len(rewards)] if rewards else float(token % 2))
        for due, score in zip(inbox.due(count), scores, strict=True):
            self.learning.record_verdict(
                exchange=due.exchange.id, agent="main", judge="t", score=score, detail={}, samples=due.samples(score)
            )
        return sum(scores) / count

    async def converse_wrongly(self, count: int) -> None:
        """As ``converse``, by a sampler that does not agree with the trainer about the same version."""
        await self.converse(count, off=0.5)

    def states(self) -> dict[str, int]:
        rows = self.learning._connection.execute("SELECT state, count(*) FROM samples GROUP BY state").fetchall()
        return dict(map(tuple, rows))


@asynccontextmanager
async def opened(folder: Path, *, now: float = 0.0) -> AsyncIterator[World]:
    """A world whose journals lie in ``folder``."""
    with LearningJournal.open(folder / "learning.db") as learning:
        holds = PolicyHolds.open(folder / "learning.db", clock=lambda: now)
        try:
            async with TurnJournal(folder / "turns.db") as turns:
                yield World(folder, turns, learning, holds)
        finally:
            holds.close()
