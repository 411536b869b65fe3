"""The book of what models took, and what older releases wrote into it."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer
from metaclaw.journal.judge_statistics import CallsSpent, read_facts, read_spent
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_costs import spent_by_purpose
from metaclaw.journal.learning_records import Baseline, NewVersion, Sample
from metaclaw.journal.paid_calls import CallBook, PaidCall
from metaclaw.journal.skill_costs import Spent
from metaclaw.journal.teacher_words import Heard, Kept
from tests.fakes.full_disk import LONG, Disk

_ROWS = {
    7: """
        INSERT INTO judgements (exchange, agent, state, score, judge, detail, judged_at)
            VALUES ('x', 'main', 'judged', 1.0, 'llm:m', '{"source": "llm"}', 1.0);
        INSERT INTO judge_calls (purpose, agent, tokens, is_estimate, cost_usd, called_at) VALUES
            ('exchange', 'main', 1000, 0, 0.5, 10.0), ('exchange', 'main', 70, 1, NULL, 20.0),
            ('pair', 'other', 300, 0, 0.25, 30.0);
    """,
    8: """
        UPDATE judge_calls SET prompt_tokens = 900, completion_tokens = 100 WHERE id = 1;
        INSERT INTO extraction_calls (agent, prompt_tokens, completion_tokens, cost_usd, called_at)
            VALUES ('main', 40, 2, 0.125, 15.0), ('main', NULL, NULL, NULL, 25.0);
    """,
    10: """
        INSERT INTO teacher_calls (agent, teacher, tokens, is_estimate, cost_usd, called_at, prompt_tokens,
            completion_tokens) VALUES ('main', 'big', 500, 0, 2.0, 12.0, 499, 1), ('main', 'big', 90, 1, NULL, 35.0,
            NULL, NULL);
    """,
}


def older(path: Path, schema: int) -> None:
    """What a release with ``schema`` left behind."""
    scripts = resources.files("metaclaw.journal").joinpath("migrations")
    with closing(sqlite3.connect(path)) as old:
        for number in range(1, schema + 1):
            old.executescript(scripts.joinpath(f"learning_{number:04}.sql").read_text(encoding="utf-8"))
            old.executescript(_ROWS.get(number, ""))
        old.execute(f"PRAGMA user_version = {schema}")


def told(path: Path) -> tuple[object, ...]:
    """All that people are told of the costs."""
    return (
        spent_by_purpose(path),
        [read_spent(path, purpose, since=15.0) for purpose in ("judging", "comparing", "remembering", "teaching")],
    )


@pytest.mark.parametrize("schema", [6, 7, 8, 9, 10])
def test_costs_of_an_older_release_are_told_before_the_learner_starts_and_after_and_are_the_same(
    tmp_path: Path, schema: int
):
    path = tmp_path / "learning.db"
    older(path, schema)
    before, facts = told(path), read_facts(path) if schema > 6 else None  # those of before are refused
    open_writer(path, "learning").close()
    assert told(path) == before
    assert facts in (None, read_facts(path))


def test_what_the_newest_of_the_older_releases_told_of_costs(tmp_path: Path):
    path = tmp_path / "learning.db"
    older(path, 10)
    open_writer(path, "learning").close()
    spent = spent_by_purpose(path)
    # As that release itself tells it of the same file.
    assert spent["judging"] == Spent(
        num_asked=2, prompt_tokens=900, completion_tokens=100, cost_usd=0.5, num_unknown_tokens=1, num_unknown_costs=1
    )
    assert spent["comparing"] == Spent(num_asked=1, cost_usd=0.25, num_unknown_tokens=1)
    assert spent["remembering"] == Spent(
        num_asked=2, prompt_tokens=40, completion_tokens=2, cost_usd=0.125, num_unknown_tokens=1, num_unknown_costs=1
    )
    assert spent["teaching"] == Spent(
        num_asked=2, prompt_tokens=499, completion_tokens=1, cost_usd=2.0, num_unknown_tokens=1, num_unknown_costs=1
    )
    assert read_spent(path, "judging", since=0) == CallsSpent(
        num_answers=2, tokens=1070, num_estimates=1, cost_usd=0.5, num_unknown_costs=1
    )
    assert read_spent(path, "teaching", since=0) == CallsSpent(
        num_answers=2, tokens=590, num_estimates=1, cost_usd=2.0, num_unknown_costs=1
    )
    main, other = read_facts(path)
    assert (main.spent["exchange"].tokens, main.spent["pair"].num_answers) == (1070, 0)
    assert (other.agent, other.spent["pair"].tokens) == ("other", 300)
    with closing(CallBook.open(path, clock=lambda: 40.0)) as book:
        assert book.spent("judging", last_s=25) == (70, 0.0), "the cap of a day goes on over the change"


def test_an_agent_that_was_only_read_for_memories_was_not_judged(tmp_path: Path):
    path = tmp_path / "learning.db"
    with closing(CallBook.open(path)) as book:
        book.record(PaidCall(purpose="remembering", agent="main"))
    assert read_facts(path) == []


TWO = np.asarray([-0.5, -1.5], "<f4").tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "learning.db"
    with LearningJournal.open(path) as journal:
        for turn in "abc":
            journal.record_verdict(
                exchange=f"x{turn}", agent="main", judge="t", score=1.0, detail={},
                samples=[Sample(turn=turn, exchange=f"x{turn}", agent="main", version=0, reward=1.0, sampled_at=0.0)],
            )  # fmt: skip
    return path


def hear(book: CallBook, *turns: str, tokens: int = 10, cost_usd: float | None = 0.5) -> None:
    book.record(
        PaidCall(purpose="teaching", agent="main", tokens=tokens, cost_usd=cost_usd),
        Heard(teacher="big", words=dict.fromkeys(turns, TWO)),
    )


def kept(path: Path) -> set[str]:
    with closing(CallBook.open(path)) as book:
        return set(book.kept("big", ["a", "b", "c", "d"]).words)


def test_what_a_teacher_said_is_kept_with_what_it_took_for_the_turns_that_wait(path: Path):
    with closing(CallBook.open(path)) as book:
        hear(book, "a", "b")
        hear(book, "c", "unknown")
        assert book.kept("big", ["a", "b"]) == Kept(words={"a": TWO, "b": TWO}, tokens=10, cost_usd=0.5)
        assert book.kept("big", ["a", "c", "unknown"]) == Kept(words={"a": TWO, "c": TWO}, tokens=20, cost_usd=1.0)
        assert book.kept("other", ["a"]) == Kept(words={}, tokens=0, cost_usd=0.0)
        hear(book, "c", cost_usd=None)
        assert book.kept("big", ["c", "a"]).cost_usd is None, "an unknown cost is not nothing"


def test_it_is_kept_until_its_update_ends_or_the_sample_does(path: Path):
    with closing(CallBook.open(path)) as book, LearningJournal.open(path) as journal:
        hear(book, "a", "b", "c")
        journal.abort(journal.claim("main", 0, ["a", "b"]), "the trainer is away")
        journal.claim("main", 0, ["a", "b"])
        journal.recover()
        assert kept(path) == {"a", "b", "c"}
        journal.expire(["c"], "max_age_days")
        assert kept(path) == {"a", "b"}
        update, new = journal.claim("main", 0, ["a"]), NewVersion(base_model="m", state_path="s", sampler_path="p")
        journal.commit(update, new, number=1, baseline=None, metrics={})
        assert kept(path) == {"b"}
        journal.reject(journal.claim("main", 1, ["b"]), "no", baseline=Baseline(value=0, num_rewards=1), metrics={})
        assert kept(path) == set()
        assert book.spent("teaching", last_s=60) == (10, 0.5), "what it took stays in the book"


def test_what_is_kept_has_a_limit_and_the_newest_stays(path: Path):
    with closing(open_writer(path, "learning")) as connection:
        book = CallBook(connection, max_words_bytes=2 * len(TWO))
        for turn in "abc":
            hear(book, turn)
    assert kept(path) == {"b", "c"}


@pytest.fixture
def book_on_disk(path: Path) -> Iterator[tuple[CallBook, Disk]]:
    connection = open_writer(path, "learning")
    times = itertools.count(100)
    with CallBook(connection, clock=lambda: float(next(times))) as book:
        yield book, Disk(connection)


def calls_in_file(path: Path) -> list[tuple]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT agent, tokens, called_at FROM paid_calls ORDER BY id").fetchall()


def pay(book: CallBook, agent: str, tokens: int = 10) -> None:
    """What does not fit into the rest of a page."""
    call = PaidCall(purpose="teaching", agent=agent, model=LONG, tokens=tokens, cost_usd=0.25)
    book.record(call, Heard(teacher=agent, words={"a": TWO}))


def test_what_a_full_disk_does_not_take_counts_and_is_written_in_its_order_when_there_is_room(
    path: Path, book_on_disk, caplog: pytest.LogCaptureFixture
):
    book, disk = book_on_disk
    pay(book, "before")
    disk.fill()
    for agent in ("first", "second"):
        pay(book, agent)
    assert [agent for agent, *_ in calls_in_file(path)] == ["before"]
    assert "full" in (book.trouble or "")
    assert book.spent("teaching", last_s=1e6) == (30, 0.75)
    assert book.spent("judging", last_s=1e6) == (0, 0.0)
    assert caplog.text.count("counted in memory") == 1
    disk.free()
    pay(book, "after")
    assert book.trouble is None
    names, _, times = zip(*calls_in_file(path), strict=True)
    assert names == ("before", "first", "second", "after")
    assert list(times) == sorted(set(times)), "each with the time when it came"
    assert book.spent("teaching", last_s=1e6) == (40, 1.0), "nothing counts twice"
    assert book.kept("second", ["a"]) == Kept(words={"a": TWO}, tokens=10, cost_usd=0.25), "and with what was said"


def test_what_waits_longer_than_the_cap_looks_back_does_not_count_any_more(path: Path):
    now = [0.0]
    with closing(open_writer(path, "learning")) as connection:
        book, disk = CallBook(connection, clock=lambda: now[0]), Disk(connection)
        disk.fill()
        pay(book, "first")
        now[0] = 50.0
        pay(book, "second")
        assert book.spent("teaching", last_s=40) == (10, 0.25)


def test_what_is_lost_at_the_end_is_said_and_what_fits_by_then_is_written(path: Path, caplog: pytest.LogCaptureFixture):
    for is_freed in (False, True):
        connection = open_writer(path, "learning")
        book, disk = CallBook(connection), Disk(connection)
        disk.fill()
        pay(book, "last")
        if is_freed:
            disk.free()
        book.close()
    assert caplog.text.count("1 paid answers (10 tokens, 0.25 USD) are lost") == 1
    assert len(calls_in_file(path)) == 1


def test_an_answer_that_can_never_be_written_is_refused_and_in_nobodys_way(path: Path):
    with CallBook.open(path) as book:
        with pytest.raises(JournalError, match="CHECK constraint"):
            book.record(PaidCall(purpose="guessing", agent="main"))  # type: ignore[arg-type]
        pay(book, "main")
        assert book.trouble is None
    assert [agent for agent, *_ in calls_in_file(path)] == ["main"]
