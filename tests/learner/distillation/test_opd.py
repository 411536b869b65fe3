"""What a teacher is asked about an update's turns, and what it costs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from contextlib import asynccontextmanager, closing

import aiohttp
import numpy as np
import pytest

from metaclaw.config import OpdSettings, RlSettings, UpdateSettings
from metaclaw.errors import JournalError
from metaclaw.journal.judge_statistics import read_spent
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_costs import spent_by_purpose
from metaclaw.journal.learning_records import NewVersion
from metaclaw.learner.distillation.endpoint import ScoringEndpoint, TeacherError, TeachingBudgetError
from metaclaw.learner.distillation.opd import OnPolicyDistillation, OtherVocabularyError, Teacher
from metaclaw.learner.spending import DayCap
from metaclaw.upstreams.http_model import HttpModel
from tests.fakes.teacher import plainly, teacher, word
from tests.learner.distillation.asking import TURNS, asking, judged, turn

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def taught_by(
    tmp_path, *, own_names=word, usd_a_token: float | None = 0.5, max_tokens: int = 0, max_usd=0.0, now=time.time, **how
):
    """A teacher elsewhere, beside a training server that has the names of the policy's tokens."""
    judged(tmp_path / "learning.db")
    async with teacher(**how) as there, teacher(name_of=own_names) as here:
        cap = DayCap(
            doing="teaching", section="rl.opd", max_tokens=max_tokens, max_usd=max_usd, error=TeachingBudgetError
        )
        async with asking(tmp_path, there.url, here.url, usd_a_token=usd_a_token, cap=cap, now=now) as opd:
            yield opd, there


async def test_each_answer_is_scored_once_with_those_before_it_in_its_session(tmp_path):
    async with taught_by(tmp_path) as (opd, there):
        lesson = await opd.lesson("main", TURNS)
        assert (lesson.method, lesson.weight, lesson.max_gap) == ("opd", 2, 3)
        told = {name: [round(float(value), 3) for value in values] for name, values in lesson.taught.items()}
        assert told == {
            "a": [plainly(3, 2), plainly(4, 3)],
            "b": [plainly(6, 5)],
            "c": [plainly(8, 4), plainly(7, 5)],
        }
        assert sorted(body["prompt"] for body in there.requests) == [[1, 2, 3, 4, 5, 6], [9, 9, 9, 9, 8, 7]]
        assert lesson.numbers == {
            "opd/taught_turns": 3, "opd/untaught_turns": 0, "opd/teacher_tokens": 14, "opd/teacher_usd": 7,
        }  # fmt: skip


async def test_a_teacher_that_goes_away_is_not_asked_again_what_it_has_said(tmp_path):
    down = [True]
    async with taught_by(tmp_path, fails=lambda prompt: 503 if prompt[0] == 9 and down[0] else None) as (opd, there):
        with pytest.raises(TeacherError):
            await opd.lesson("main", TURNS)
        down[0] = False
        lesson = await opd.lesson("main", TURNS)
        assert lesson.taught.keys() == {"a", "b", "c"}
        assert [body["prompt"][0] for body in there.requests].count(1) == 1
        assert lesson.numbers["opd/teacher_tokens"] == 14, "what the failed attempt took counts"
        other = await opd.lesson("main", [turn("d", [1], [2])])
        assert (other.taught.keys(), other.numbers["opd/teacher_tokens"]) == ({"d"}, 3)


async def test_a_learner_that_starts_anew_pays_for_nothing_that_was_said_to_the_one_before_it(tmp_path):
    down = [True]
    fails = {"fails": lambda prompt: 503 if prompt[0] == 9 and down[0] else None}
    async with taught_by(tmp_path, **fails) as (opd, there):
        with pytest.raises(TeacherError):
            await opd.lesson("main", TURNS)
        down[0] = False
        async with asking(tmp_path, there.url, there.url) as next_one:
            lesson = await next_one.lesson("main", TURNS)
        assert [body["prompt"][0] for body in there.requests].count(1) == 1
        assert lesson.numbers == {
            "opd/taught_turns": 3, "opd/untaught_turns": 0, "opd/teacher_tokens": 14, "opd/teacher_usd": 7,
        }  # fmt: skip
        async with asking(tmp_path, there.url, "http://127.0.0.1:1/v1") as third:
            again = await third.lesson("main", TURNS)
        assert again.numbers == lesson.numbers
        assert {turn: list(one) for turn, one in again.taught.items()} == {
            turn: list(one) for turn, one in lesson.taught.items()
        }


async def test_a_learner_killed_while_a_teacher_answers_asks_the_next_time_for_the_missing_answers_alone(tmp_path):
    judged(tmp_path / "learning.db")
    asked, held = asyncio.Event(), asyncio.Event()

    async def wait(prompt: list[int]) -> None:
        if prompt[0] == 9 and not held.is_set():
            asked.set()
            await held.wait()

    async with teacher(waits=wait) as there, teacher() as here:

        async def start() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.learner.distillation.asking", tmp_path, there.url, here.url,
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip

        killed = await start()
        await asyncio.wait_for(asked.wait(), 60)
        killed.kill()
        await killed.wait()
        held.set()
        finished = await start()
        told = json.loads((await finished.communicate())[0])
        assert [body["prompt"][0] for body in there.requests] == [1, 9, 9]
    assert told["taught"].keys() == {"a", "b", "c"}
    assert told["numbers"]["opd/teacher_tokens"] == 14
    assert told["taught"]["a"] == pytest.approx([plainly(3, 2), plainly(4, 3)])
    assert read_spent(tmp_path / "learning.db", "teaching", since=0).num_answers == 2


async def test_nobody_pays_a_teacher_while_its_tokens_cannot_be_compared(tmp_path):
    judged(tmp_path / "learning.db")
    async with teacher() as there, asking(tmp_path, there.url, "http://127.0.0.1:1/v1") as opd:
        with pytest.raises(TeacherError):
            await opd.lesson("main", TURNS)
        assert there.requests == []


async def test_what_cannot_be_written_down_is_not_paid_for_again(tmp_path):
    async with taught_by(tmp_path) as (opd, there):
        with closing(sqlite3.connect(tmp_path / "learning.db")) as full:
            full.execute("CREATE TRIGGER odd BEFORE INSERT ON paid_calls BEGIN SELECT raise(ABORT, 'odd'); END")
            with pytest.raises(JournalError, match="cannot be written down: odd"):
                await opd.lesson("main", TURNS[:2])
            full.execute("DROP TRIGGER odd")
        lesson = await opd.lesson("main", TURNS[:2])
        assert (lesson.taught.keys(), len(there.requests)) == ({"a", "b"}, 1)


@pytest.mark.parametrize("caps", [{"max_tokens": 7}, {"max_usd": 3.5}])
async def test_a_teacher_is_not_asked_beyond_the_days_cap_and_the_rest_waits_for_the_next_day(tmp_path, caps):
    days = [1e6]
    async with taught_by(tmp_path, now=lambda: days[0], **caps) as (opd, there):
        with pytest.raises(TeachingBudgetError, match=rf"teaching took .* of rl\.opd\.{next(iter(caps))}_per_day"):
            await opd.lesson("main", TURNS)
        with pytest.raises(TeachingBudgetError):
            await opd.lesson("main", TURNS)
        assert [body["prompt"][0] for body in there.requests] == [1], "the first answer reached the cap"
        days[0] += 86_401
        lesson = await opd.lesson("main", TURNS)
        assert [body["prompt"][0] for body in there.requests] == [1, 9]
        assert lesson.taught.keys() == {"a", "b", "c"}
        assert lesson.numbers["opd/teacher_tokens"] == 14
    facts = read_spent(tmp_path / "learning.db", "teaching", since=0)
    assert (facts.num_answers, facts.tokens, facts.cost_usd, facts.num_estimates) == (2, 14, 7.0, 0)
    assert spent_by_purpose(tmp_path / "learning.db")["teaching"].prompt_tokens == 12


async def test_what_is_known_of_an_updates_turns_outlives_one_of_them_that_is_given_up(tmp_path):
    async with taught_by(tmp_path) as (opd, there):
        await opd.lesson("main", TURNS)
        lesson = await opd.lesson("main", [TURNS[2], turn("d", [4], [2])])
        assert lesson.taught.keys() == {"c", "d"}
        assert [body["prompt"][0] for body in there.requests].count(9) == 1, "it was paid for already"


async def test_what_a_teacher_does_not_take_is_untaught_and_counted(tmp_path):
    async with taught_by(tmp_path, usd_a_token=None, fails=lambda prompt: 400 if prompt[0] == 9 else None) as (opd, _):
        lesson = await opd.lesson("main", TURNS)
        assert lesson.taught.keys() == {"a", "b"}
        assert (lesson.numbers["opd/taught_turns"], lesson.numbers["opd/untaught_turns"]) == (2, 1)
        assert "opd/teacher_usd" not in lesson.numbers, "what has no price costs an unknown amount, not nothing"


async def test_a_teacher_with_other_tokens_is_refused_before_more_is_paid_and_told_what_to_do(tmp_path):
    async with taught_by(tmp_path, own_names=lambda token: f"v{token}") as (opd, there):
        for asked in (1, 2):
            with pytest.raises(OtherVocabularyError, match=r"' w\d'|'w\d' there.*same tokenizer.*rl\.update\.methods"):
                await opd.lesson("main", TURNS)
            assert len(there.requests) == asked


@pytest.mark.parametrize(
    "own_names",
    [lambda token: f"Ġw{token}", lambda token: word(token) if token % 3 else "bytes:\\xe2"],
)
async def test_ways_to_write_a_token_are_no_other_vocabulary(tmp_path, own_names):
    async with taught_by(tmp_path, own_names=own_names) as (opd, _):
        assert len((await opd.lesson("main", TURNS)).taught) == 3


async def test_a_version_is_named_as_it_is_everywhere_and_one_that_never_was_is_an_error(tmp_path):
    with LearningJournal.open(tmp_path / "learning.db") as journal:
        async with aiohttp.ClientSession() as session, teacher() as here:
            endpoint = ScoringEndpoint(HttpModel(session, here.upstream))
            one = Teacher(endpoint=endpoint, own=endpoint, journal=journal, spending=None)
            with pytest.raises(TeacherError, match=r"rl\.opd\.model is 'main@7'"):
                await OnPolicyDistillation(one, OpdSettings(model="main@7"), ("main", 7)).lesson("main", TURNS)
            rl = RlSettings(update=UpdateSettings(methods=("opd",)), opd=OpdSettings(model="main@1"))
            made = NewVersion(base_model="m", state_path="s", sampler_path="p")
            journal.commit(journal.claim("main", 0, []), made, number=1, baseline=None, metrics={})
            journal.serve("main", 0, "w")
            journal.retire("main", keep=())
            with pytest.raises(TeacherError, match=r"'main@1', whose weights were deleted"):
                await OnPolicyDistillation(one, rl.opd, rl.own_teacher).lesson("main", TURNS)
            for model, asked in (("base", "first"), ("tinker://x/sampler_weights/y", "tinker://x/sampler_weights/y")):
                await OnPolicyDistillation(one, OpdSettings(model=model)).lesson("main", TURNS)
                assert here.requests[-1]["model"] == asked
            assert np.isfinite(np.concatenate([*(await _taught(one)).values()])).all()


async def _taught(one: Teacher):
    return (await OnPolicyDistillation(one, OpdSettings(model="base")).lesson("main", TURNS)).taught
