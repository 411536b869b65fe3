"""What models took to judge and to read for memories is written down, with what they said of it and no more."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from metaclaw.config import JudgeSettings, MemorySettings, RlSettings, Settings
from metaclaw.journal.database import open_writer
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_costs import spent_by_purpose
from metaclaw.journal.paid_calls import CallBook
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.assembly import Shared, jobs_for
from metaclaw.learner.judges.judge import Exchange, JudgeBudgetError
from metaclaw.learner.judges.loading import load_judge, spending_of
from metaclaw.upstreams.session import new_session
from tests.fakes.full_disk import LONG, Disk
from tests.fakes.judge_llm import judge_model
from tests.learner.recording import Said, record

pytestmark = pytest.mark.anyio


def answer(body: dict) -> str:
    return "Score: 1" if body["model"] == "judge" else json.dumps({"memories": []})


@pytest.mark.parametrize("usage", [(700, 30), None])
async def test_what_judging_and_remembering_take_is_written_down(tmp_path: Path, usage: tuple[int, int] | None):
    (tmp_path / "prices.yaml").write_text("judge: {input: 1000, output: 0}\nreader: {input: 0, output: 1000}\n")
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(judge_model(answer, usage=usage))
        settings = Settings(
            home=tmp_path,
            rl=RlSettings(judge=JudgeSettings(url=model.url, model="judge", votes=2, idle_s=1)),
            memory=MemorySettings(extractor_url=model.url, extractor_model="reader"),
        )
        session = await stack.enter_async_context(new_session())
        journal = stack.enter_context(LearningJournal.open(settings.learning_db))
        book = CallBook.open(settings.learning_db)
        stack.callback(book.close)
        spending = spending_of(settings.rl.judge, book, settings.home)
        judge = load_judge(settings.rl.judge, session, home=settings.home, spending=spending)
        shared = Shared(
            settings=settings, journal=journal, session=session, judge=judge, closing=stack, spending=spending
        )
        jobs = {job.name: job for job in jobs_for(shared)}
        async with TurnJournal(settings.turns_db) as turns:
            now = time.time() - 1000
            said = Said(turn="t", exchange="x", human="I live in Oslo.", opened_at=now, closed_at=now, sample=None)
            await record(turns, said)
        assert await jobs["judging"].step()
        assert await jobs["remembering"].step()
    spent = spent_by_purpose(settings.learning_db)
    tokens, costs = ([700, 30], [1.4, 0.03]) if usage else ([0, 0], [0.0, 0.0])
    judging, remembering = spent["judging"], spent["remembering"]
    assert (judging.num_asked, remembering.num_asked) == (2, 1)
    assert [judging.prompt_tokens / 2, judging.completion_tokens / 2] == tokens
    assert [remembering.prompt_tokens, remembering.completion_tokens] == tokens
    assert remembering.num_unknown_costs == (0 if usage else 1)
    assert remembering.cost_usd == pytest.approx(costs[1])
    if usage:
        assert judging.cost_usd == pytest.approx(costs[0])
    assert spent["comparing"].num_asked == 0


async def test_while_what_votes_take_cannot_be_written_down_they_count_and_no_more_are_paid_for(tmp_path: Path):
    """A full disk must not buy the same votes again and again, of which neither price nor score is kept."""
    connection = open_writer(tmp_path / "learning.db", "learning")
    disk = Disk(connection)
    async with judge_model(lambda body: "Score: 1", usage=(900, 100)) as model, new_session() as session:
        with CallBook(connection) as book:
            settings = JudgeSettings(url=model.url, model=LONG, votes=3, max_tokens_per_day=5000)
            judge = load_judge(settings, session, spending=spending_of(settings, book, tmp_path))
            assert judge is not None
            disk.fill()
            assert (await judge.judge(exchange())).score == 1.0, "what was paid for is used"
            assert book.spent("judging", last_s=60) == (3000, 0.0)
            for _ in range(3):
                with pytest.raises(JudgeBudgetError, match=r"cannot be written down \(database or disk is full\)"):
                    await judge.judge(exchange())
            assert len(model.requests) == 3
            disk.free()
            assert (await judge.judge(exchange())).score == 1.0
            with pytest.raises(JudgeBudgetError, match="took 6,000 tokens"):
                await judge.judge(exchange())
    assert spent_by_purpose(tmp_path / "learning.db")["judging"].num_asked == 6


def exchange() -> Exchange:
    return Exchange(
        id="x", agent="main", session="s", turn_ids=("t",), prompt="ask", answer="hi", messages=(), finish_reason="stop"
    )
