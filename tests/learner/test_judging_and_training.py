"""Judging and training: what fails delays learning, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from metaclaw.errors import BackendError, JournalError, JudgeError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.gate.examination import GateWaitsError, JudgeAwayError
from metaclaw.learner.inbox import Inbox, RetryPolicy
from metaclaw.learner.jobs import run_jobs
from metaclaw.learner.judges.judge import Exchange, JudgeUnavailableError, Verdict
from metaclaw.learner.judging import Judging, JudgingPace
from metaclaw.learner.outcomes import Outcome, Rejected, Waiting
from metaclaw.learner.updating import Updating
from tests.learner.recording import Said, record

pytestmark = pytest.mark.anyio


@dataclass
class ScriptedJudge:
    """Scores 1, or raises or abstains as long as it is told to."""

    name: str = "scripted"
    needs_followup: bool = False
    is_broken: bool = False
    is_away: bool = False
    score: float | None = 1.0
    now: int = 0
    most_at_once: int = 0
    seen: list[str] = field(default_factory=list)

    async def judge(self, exchange: Exchange) -> Verdict:
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        self.seen.append(exchange.id)
        if self.is_broken:
            raise JudgeError("broken")
        if self.is_away:
            raise JudgeUnavailableError("away")
        return Verdict(score=self.score, detail={"by": "script"})


@dataclass
class ScriptedTraining:
    """Answers with what it is given, the last for ever."""

    outcomes: list[Outcome | Exception]
    agents: list[str] = field(default_factory=list)

    async def attempt(self, agent: str) -> Outcome:
        self.agents.append(agent)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@dataclass
class World:
    judging: Judging
    updating: Updating
    journal: LearningJournal
    turns: TurnJournal
    judge: ScriptedJudge
    training: ScriptedTraining
    time: list[float]


@pytest.fixture
async def world(tmp_path):
    time, judge = [0.0], ScriptedJudge()
    training = ScriptedTraining([Waiting(reason="more")])
    with LearningJournal.open(tmp_path / "learning.db", clock=lambda: time[0]) as journal:
        async with TurnJournal(tmp_path / "turns.db") as turns:
            inbox = Inbox(
                turns_db=tmp_path / "turns.db", journal=journal, needs_followup=False, idle_s=1,
                retry=RetryPolicy(max_attempts=3, first_s=10), clock=lambda: time[0],
            )  # fmt: skip
            judging = Judging(journal=journal, inbox=inbox, judge=judge, pace=JudgingPace(at_once=4))
            updating = Updating(journal=journal, training=training, clock=lambda: time[0])
            yield World(judging, updating, journal, turns, judge, training, time)


async def test_a_judge_that_fails_leaves_unjudged_not_zero_and_is_asked_again(world):
    """PITFALLS R9: any failure of the judge was a reward of 0."""
    await record(world.turns, Said(turn="a", exchange="x"))
    world.judge.is_broken = True
    assert await world.judging.step()
    assert world.journal.pending("main") == []
    assert world.journal.judgements(["x"])["x"].score is None
    assert not await world.judging.step()
    world.judge.is_broken, world.time[0] = False, 10.0
    assert await world.judging.step()
    assert [sample.reward for sample in world.journal.pending("main")] == [1.0]
    assert world.journal.judgements(["x"])["x"].attempts == 2


async def test_a_judge_that_never_works_is_given_up_after_its_attempts(world):
    await record(world.turns, Said(turn="a", exchange="x"))
    world.judge.is_broken = True
    for hour in range(9):
        world.time[0] = hour * 3600.0
        await world.judging.step()
    assert len(world.judge.seen) == 3
    assert world.journal.pending("main") == []


async def test_while_the_disk_is_full_each_exchange_is_judged_once_and_recorded_when_there_is_room(world, tmp_path):
    """A verdict may have been paid for: one that cannot be written ends no other, and is not asked for again."""
    with closing(sqlite3.connect(tmp_path / "learning.db", isolation_level=None)) as disk:
        disk.execute("CREATE TRIGGER full BEFORE INSERT ON judgements BEGIN SELECT raise(ABORT, 'disk is full'); END")
        for number in range(3):
            await record(world.turns, Said(turn=f"t{number}", exchange=f"x{number}"))
        for _ in range(2):
            with pytest.raises(JournalError, match="disk is full"):
                await world.judging.step()
        disk.execute("DROP TRIGGER full")
    assert await world.judging.step()
    assert sorted(world.judge.seen) == ["x0", "x1", "x2"]
    assert world.journal.judgements(["x0", "x1", "x2"]).keys() == {"x0", "x1", "x2"}
    assert not await world.judging.step()


async def test_a_judge_that_was_away_for_a_day_judges_what_was_said_meanwhile(world):
    """PITFALLS R9: what a judge that failed did not score was lost."""
    await record(world.turns, Said(turn="a", exchange="x"))
    world.judge.is_away = True
    for hour in range(24):
        world.time[0] = hour * 3600.0
        await world.judging.step()
    assert len(world.judge.seen) > 20
    world.judge.is_away, world.time[0] = False, 25 * 3600.0
    assert await world.judging.step()
    assert [sample.turn for sample in world.journal.pending("main")] == ["a"]


async def test_no_opinion_is_no_reward_and_not_asked_again(world):
    await record(world.turns, Said(turn="a", exchange="x"))
    world.judge.score = None
    await world.judging.step()
    world.time[0] = 1e6
    assert not await world.judging.step()
    assert world.journal.pending("main") == []


async def test_judging_is_bounded_and_each_exchange_is_judged_once(world):
    await record(world.turns, *(Said(turn=f"t{n}", exchange=f"x{n}", session=f"s{n}") for n in range(30)))
    await world.judging.step()
    await world.judging.step()
    assert sorted(world.judge.seen) == sorted(f"x{n}" for n in range(30))
    assert world.judge.most_at_once == 4


async def test_a_trainer_that_is_down_is_asked_again_after_growing_pauses(world, caplog):
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.judging.step()
    world.training.outcomes = [BackendError("down")]
    attempts = list[float]()
    for second in range(60):
        world.time[0] = float(second)
        before = len(world.training.agents)
        await world.updating.step()
        attempts += [float(second)] * (len(world.training.agents) - before)
    assert attempts == [0.0, 5.0, 15.0, 35.0]
    assert "down" in caplog.text
    world.training.outcomes, world.time[0] = [Waiting(reason="more")], 75.0
    await world.updating.step()
    world.training.outcomes, world.time[0] = [BackendError("down")], 76.0
    await world.updating.step()
    world.time[0] = 81.0
    await world.updating.step()
    assert len(world.training.agents) == 7, "the pause starts small again after a success"


@pytest.mark.parametrize(
    ("error", "attempts"), [(GateWaitsError("no verdicts"), range(3, 4)), (JudgeAwayError("down"), range(25, 35))]
)
async def test_what_the_gate_cannot_examine_is_trained_again_once_an_hour_and_a_judge_that_is_away_asked_sooner(
    world, error: BackendError, attempts: range
):
    """The one costs a training and its answers each time, the other keeps what was trained."""
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.judging.step()
    world.training.outcomes = [error]
    for moment in range(0, 7201, 5):
        world.time[0] = float(moment)
        await world.updating.step()
    assert len(world.training.agents) in attempts


async def test_one_agent_that_fails_does_not_hold_up_another(world):
    await record(world.turns, Said(turn="a", exchange="x"), Said(turn="b", exchange="y", agent="other"))
    await world.judging.step()
    world.training.outcomes = [BackendError("down"), Rejected(update_id=1, reason="KL")]
    await world.updating.step()
    await world.updating.step()
    assert world.training.agents == ["main", "other", "other"]


async def test_what_it_waits_for_is_said_once(world, caplog):
    caplog.set_level("INFO")
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.judging.step()
    for _ in range(5):
        await world.updating.step()
    assert caplog.text.count("the next update waits: more") == 1


async def test_both_go_on_until_they_are_cancelled(world, tmp_path):
    running = asyncio.create_task(run_jobs([world.judging, world.updating]))
    await record(world.turns, Said(turn="a", exchange="x"))
    while not world.training.agents:  # noqa: ASYNC110 - polls what another task does
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (status,) = read_status(tmp_path / "learning.db")
    assert (status.agent, status.judged, status.pending, status.serving) == ("main", 1, 1, 0)


def test_there_is_a_status_before_there_is_a_journal(tmp_path):
    assert read_status(tmp_path / "learning.db") == []
    (tmp_path / "learning.db").touch()
    assert read_status(tmp_path / "learning.db") == []
