"""The whole way over a policy of one token: recorded, judged, trained by the updater, examined by the gate."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest

from metaclaw.config import GateSettings, UpdateSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.turns import TurnJournal, TurnReader
from metaclaw.learner.gate.answers import Drawn
from metaclaw.learner.gate.gate import Gate
from metaclaw.learner.gate.held_out import is_held_out
from metaclaw.learner.gate.questions import Questions
from metaclaw.learner.inbox import Inbox
from metaclaw.learner.judges.judge import Exchange, Verdict
from metaclaw.learner.judges.pairs import ScoredPairs
from metaclaw.learner.outcomes import Outcome, Rejected
from metaclaw.learner.update import Updater
from metaclaw.learner.update_parts import UpdateParts, UpdateRules
from tests.fakes.trainer import VOCABULARY, FakeTrainer, log_softmax
from tests.learner.recording import Said, policy_sample, record

pytestmark = pytest.mark.anyio

UPDATE = UpdateSettings(min_exchanges=8, min_informative=2, max_exchanges=64, warmup_steps=0, max_kl=50.0, steps=1)
GATE = GateSettings(held_out_share=0.4, min_exchanges=4)
WIDE = GateSettings(
    held_out_share=0.4, min_exchanges=4, max_kl=50, max_kl_base=50, max_nll_rise=50, max_entropy_fall=0.99
)


@dataclass
class Table:
    """The fake trainer's versions, as the gate asks them: an answer is one token, drawn by the seed."""

    trainer: FakeTrainer

    async def draw(self, weights, prompt, *, temperature, max_tokens, seed) -> Drawn:
        shares = np.cumsum(np.exp(log_softmax(self.trainer.logits(weights), temperature)))
        token = min(VOCABULARY - 1, int(np.searchsorted(shares, Random(seed).random())))
        return Drawn(tokens=(token,), text=f"token {token}", finish_reason="stop")

    async def score(self, weights, prompt, answer) -> tuple[float, ...]:
        logprobs = log_softmax(self.trainer.logits(weights), 1.0)
        return tuple(float(logprobs[token]) for token in answer)


class LikesOdd:
    name, needs_followup = "odd", False

    async def judge(self, exchange: Exchange) -> Verdict:
        return Verdict(score=1.0 if int(exchange.answer.split()[1]) % 2 else -1.0)


@dataclass
class World:
    folder: Path
    turns: TurnJournal
    learning: LearningJournal
    holds: PolicyHolds
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    numbers: itertools.count = field(default_factory=itertools.count)

    async def update(self, gate: GateSettings, *, rewards_odd: bool, learning_rate: float) -> Outcome:
        """Let the serving version answer, reward what is odd or what is not, and attempt an update."""
        table, turns_db = Table(self.trainer), self.folder / "turns.db"
        serving = self.learning.serving("main")
        path = self.learning.version("main", serving).sampler_path if serving else None
        for number in itertools.islice(self.numbers, 48):
            (token,) = (await table.draw(path, (0,), temperature=1.0, max_tokens=1, seed=number)).tokens
            logprobs = await table.score(path, (0,), (token,))
            sample = policy_sample([0], [token], logprobs, version=serving)
            said = Said(turn=f"t{number}", exchange=f"ex-{number}-1", session=f"s{number}", sample=sample)
            await record(self.turns, said)
        inbox = Inbox(
            turns_db=turns_db, journal=self.learning, needs_followup=False, idle_s=1,
            held_out_share=gate.held_out_share, clock=lambda: 0.0,
        )  # fmt: skip
        for due in inbox.due(100):
            sample = policy_sample_tokens(self.folder, due.turns[0].id)
            score = float((sample % 2 == 1) == rewards_odd)
            self.learning.record_verdict(
                exchange=due.exchange.id, agent="main", judge="t", score=score, detail={}, samples=due.samples(score)
            )
        examiner = Gate(
            questions=Questions(turns_db, self.learning, gate, clock=lambda: 0.0),
            drawer=table, judge=ScoredPairs(LikesOdd(), Random(2)), settings=gate,
        )  # fmt: skip
        updater = Updater(
            UpdateParts(
                journal=self.learning, turns_db=turns_db, holds=self.holds, backend=self.trainer, gate=examiner
            ),
            UpdateRules(update=UPDATE.model_copy(update={"learning_rate": learning_rate})),
            new_suffix=lambda: f"r{next(self.numbers)}",
            clock=lambda: 0.0,
        )
        outcome = await updater.attempt("main")
        await updater.close()
        return outcome


def policy_sample_tokens(folder: Path, turn: str) -> int:
    with TurnReader.open(folder / "turns.db") as reader:
        sample = reader.sample(turn)
    assert sample is not None
    return int(np.frombuffer(sample.tokens, "<i4")[0])


@pytest.fixture
async def world(tmp_path):
    with LearningJournal.open(tmp_path / "learning.db") as learning:
        holds = PolicyHolds.open(tmp_path / "learning.db")
        async with TurnJournal(tmp_path / "turns.db") as turns:
            yield World(tmp_path, turns, learning, holds)
        holds.close()


async def test_what_gets_better_serves_what_gets_worse_does_not_and_held_out_exchanges_are_never_trained_on(world):
    better = await world.update(GATE, rewards_odd=True, learning_rate=0.15)
    assert isinstance(better, Version)
    hacked = await world.update(WIDE, rewards_odd=False, learning_rate=1.5)
    assert isinstance(hacked, Rejected)
    assert "rl.gate.margin" in hacked.reason, "no limit but the comparison was there to see it"
    far = await world.update(GATE, rewards_odd=True, learning_rate=3.0)
    assert isinstance(far, Rejected)
    assert "rl.gate.max_kl" in far.reason
    assert world.learning.serving("main") == 1
    assert set(world.trainer.saved) == {better.state_path, better.sampler_path}, "refused weights were kept"
    again = await world.update(GATE, rewards_odd=True, learning_rate=0.15)
    assert isinstance(again, Version)
    assert (again.version, again.parent) == (2, 1)
    sampled = world.learning._connection.execute("SELECT exchange FROM samples").fetchall()
    assert len(sampled) > 80
    assert not any(is_held_out(exchange, GATE.held_out_share) for (exchange,) in map(tuple, sampled))
