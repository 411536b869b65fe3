"""What a person says after the verdict, and what judging may take."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from metaclaw.config import JudgeSettings
from metaclaw.errors import JudgeError
from metaclaw.journal.database import open_reader
from metaclaw.journal.feedback import NewFeedback
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion
from metaclaw.journal.opinions import OpinionBook
from metaclaw.journal.paid_calls import CallBook
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.inbox import Inbox, RetryPolicy
from metaclaw.learner.judges.combined import CombinedJudge, FeedbackJudge, Source
from metaclaw.learner.judges.judge import Exchange, JudgeBudgetError, Verdict
from metaclaw.learner.judges.loading import load_judge
from metaclaw.learner.judging import Judging
from metaclaw.learner.late_feedback import LateFeedback
from metaclaw.learner.spending import DayCap, Spending
from metaclaw.upstreams.session import new_session
from tests.fakes.judge_llm import judge_model
from tests.learner.recording import Said, record

pytestmark = pytest.mark.anyio


class Strict:
    """A judge that always says -1, or fails."""

    name = "llm:strict"
    needs_followup = False
    fails = False

    async def judge(self, exchange: Exchange) -> Verdict:
        if self.fails:
            raise JudgeError("broken")
        return Verdict(score=-1.0)


@dataclass
class World:
    home: Path
    turns: TurnJournal
    journal: LearningJournal
    book: OpinionBook
    judge: Strict
    precedence: tuple[str, ...] = ("feedback", "llm")
    now: float = 0.0
    _judging: Judging | None = None

    async def step(self, *, restarted: bool = False) -> None:
        if restarted or self._judging is None:
            self._judging = self._new()
        await self._judging.step()

    async def score(self, turn: str, score: float, **changes: object) -> None:
        given = {"session": None, "only_agent": None, "text": "", "source": "user", "created_at": self.now} | changes
        await self.turns.add_feedback(NewFeedback(turn=turn, agent="main", score=score, **given))  # type: ignore[arg-type]

    def rewards(self) -> dict[str, float]:
        return {sample.turn: sample.reward for sample in self.journal.pending("main")}

    def late(self) -> list[tuple]:
        query = "SELECT exchange, score_before, score, num_changed, num_claimed, num_spent FROM late_feedback"
        with closing(open_reader(self.home / "learning.db")) as learning:
            return learning.execute(f"{query} ORDER BY feedback").fetchall()

    def _new(self) -> Judging:
        inbox = Inbox(
            turns_db=self.home / "turns.db", journal=self.journal, needs_followup=False, idle_s=1,
            retry=RetryPolicy(max_attempts=1), clock=lambda: self.now,
        )  # fmt: skip
        known = {"feedback": FeedbackJudge(), "llm": self.judge}
        return Judging(
            journal=self.journal,
            inbox=inbox,
            judge=CombinedJudge([Source(name=one, judge=known[one]) for one in self.precedence], compares=True),
            late=LateFeedback(
                turns_db=self.home / "turns.db",
                journal=self.journal,
                book=self.book,
                inbox=inbox,
                precedence=self.precedence,
                clock=lambda: self.now,
            ),
        )


@pytest.fixture
async def world(tmp_path: Path):
    with LearningJournal.open(tmp_path / "learning.db") as journal:
        book = OpinionBook.open(tmp_path / "learning.db", clock=lambda: world.now)
        async with TurnJournal(tmp_path / "turns.db") as turns:
            world = World(tmp_path, turns, journal, book, Strict())
            yield world
        book.close()


@pytest.fixture
def calls(world: World):
    book = CallBook.open(world.home / "learning.db", clock=lambda: world.now)
    yield book
    book.close()


async def test_what_a_person_said_in_time_decides_and_the_judges_opinion_is_kept(world: World):
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.score("a", -0.5)
    await world.score("a", 0.5)
    await world.step()
    await world.step()

    assert world.rewards() == {"a": 0.5}
    assert world.journal.judgements(["x"])["x"].judge == "feedback"
    assert world.book.opinions("llm", ["x"]) == {"x": -1.0}
    assert world.late() == []


async def test_what_is_said_after_the_verdict_changes_rewards_that_no_update_has(world: World):
    await record(world.turns, Said(turn="a", exchange="x"), Said(turn="b", exchange="y", session="o"))
    await world.step()
    assert world.rewards() == {"a": -1.0, "b": -1.0}

    await world.score("a", 1.0)
    for _ in range(2):
        await world.step()
        await world.step(restarted=True)

    assert world.rewards() == {"a": 1.0, "b": -1.0}
    assert world.journal.judgements(["x"])["x"].detail["before"] == ["llm:strict", -1.0]
    assert world.book.opinions("llm", ["x"]) == {"x": -1.0}
    assert world.late() == [("x", -1.0, 1.0, 1, 0, 0)]


async def test_a_running_update_keeps_its_reward_and_gives_the_sample_back_with_the_new_one(world: World):
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.step()
    update = world.journal.claim("main", 0, ["a"])
    await world.score("a", 1.0)
    await world.step()

    assert world.journal.rewards_of(update) == [-1.0]
    world.journal.abort(update, "the trainer is away")
    assert world.rewards() == {"a": 1.0}
    assert world.late() == [("x", -1.0, 1.0, 0, 1, 0)]

    world.journal.claim("main", 0, ["a"])
    await world.score("a", 0.0)
    await world.step()
    world.journal.recover()  # the learner was killed meanwhile
    assert world.rewards() == {"a": 0.0}


async def test_what_was_trained_on_is_recorded_as_too_late_and_never_trained_again(world: World):
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.step()
    update = world.journal.claim("main", 0, ["a"])
    new = NewVersion(base_model="m", state_path="s", sampler_path="p")
    world.journal.commit(update, new, number=1, baseline=Baseline(value=0.0, num_rewards=1), metrics={})
    await world.score("a", 1.0)
    await world.step()

    assert world.rewards() == {}
    assert world.journal.rewards_of(update) == [-1.0]
    assert world.late() == [("x", -1.0, 1.0, 0, 0, 1)]


async def test_an_exchange_that_no_judge_could_score_is_judged_by_the_person(world: World):
    world.judge.fails = True
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.step()
    world.now = 1e5
    await world.step()
    assert world.rewards() == {}

    await world.score("a", 1.0)
    await world.step()

    assert world.rewards() == {"a": 1.0}
    assert world.late() == []


async def test_where_the_judge_goes_before_the_person_is_only_remembered(world: World):
    world.precedence = ("llm", "feedback")
    await record(world.turns, Said(turn="a", exchange="x"))
    await world.step()
    await world.score("a", 1.0)
    await world.step()

    assert world.rewards() == {"a": -1.0}
    assert world.book.opinions("feedback", ["x"]) == {"x": 1.0}
    assert world.late() == []


def exchange() -> Exchange:
    return Exchange(
        id="x", agent="main", session="s", turn_ids=("t",), prompt="ask", answer="hi", messages=(), finish_reason="stop"
    )


async def test_judging_stops_at_the_days_cap_and_goes_on_when_the_day_is_over(world: World, calls: CallBook):
    settings = JudgeSettings(url="http://x", model="critic", votes=2)
    async with judge_model(lambda body: "Score: 1", usage=(900, 100)) as model, new_session() as session:
        for cap, fields in (("tokens", {"max_tokens": 3000, "max_usd": 0.0}), ("usd", {"max_tokens": 0, "max_usd": 3})):
            world.now += 1e6
            most = DayCap(doing="judging", section="rl.judge", error=JudgeBudgetError, **fields)  # type: ignore[arg-type]
            spending = Spending(book=calls, model="critic", price=lambda tokens: tokens.total / 1000, cap=most)
            asked = settings.model_copy(update={"url": model.url})
            judge = load_judge(asked, session, spending=spending)
            assert judge is not None
            for _ in range(2):  # the second is over it by what was under way
                assert (await judge.judge(exchange())).score == 1.0
            with pytest.raises(JudgeBudgetError, match=f"max_{cap}_per_day"):
                await judge.judge(exchange())
            world.now += 86_401
            assert (await judge.judge(exchange())).score == 1.0
    assert calls.spent("judging", last_s=60) == (2000, 2.0)


async def test_tokens_that_a_model_does_not_report_are_estimated(calls: CallBook):
    async with judge_model(lambda body: "fine\nScore: 1") as model, new_session() as session:
        cap = DayCap(doing="judging", section="rl.judge", max_tokens=1, max_usd=0, error=JudgeBudgetError)
        spending = Spending(book=calls, model="m", price=lambda tokens: None, cap=cap)
        judge = load_judge(JudgeSettings(url=model.url, model="m", votes=1), session, spending=spending)
        assert judge is not None
        await judge.judge(exchange())
        tokens, usd = calls.spent("judging", last_s=60)
        with pytest.raises(JudgeBudgetError):
            await judge.judge(exchange())
    assert 100 < tokens < 1000
    assert usd == 0.0
