"""One writing thread, whatever becomes of those who wait for it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from metaclaw.errors import JournalError
from metaclaw.journal.group_commit import GroupCommitter

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    return tmp_path / "x.db"


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)


@contextmanager
def committing(path: Path) -> Iterator[GroupCommitter]:
    committer = GroupCommitter(lambda: connect(path), name="test")
    committer.start()
    try:
        yield committer
    finally:
        connection = committer.stop()
        if connection is not None:
            connection.close()


def numbers(path: Path) -> list[int]:
    with closing(connect(path)) as db:
        return [number for (number,) in db.execute("SELECT n FROM numbers ORDER BY n")]


def insert(number: int) -> object:
    return lambda db: db.execute("INSERT INTO numbers VALUES (?)", (number,)).rowcount


async def test_a_job_is_done_when_its_waiter_left_before_it_began(path: Path) -> None:
    with committing(path) as committer:
        may_go_on = threading.Event()
        blocking = committer.submit(lambda _: may_go_on.wait(10))
        waiting = asyncio.create_task(committer.run(insert(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        may_go_on.set()
        await asyncio.wrap_future(blocking)
        assert await asyncio.wait_for(committer.run(insert(2)), 5) == 1
    assert numbers(path) == [1, 2]


async def test_a_commit_that_fails_is_told_to_all_who_wait_and_the_next_one_works(path: Path) -> None:
    def break_transaction(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")

    with committing(path) as committer:
        with pytest.raises(JournalError):
            await committer.run(break_transaction)
        assert await committer.run(insert(1)) == 1
        with pytest.raises(ZeroDivisionError):
            await committer.run(lambda _: 1 // 0)
    with pytest.raises(JournalError, match="closed"):
        committer.submit(insert(2))


async def test_what_was_handed_in_is_done_before_the_end(path: Path) -> None:
    committer = GroupCommitter(lambda: connect(path), name="test")
    futures = [committer.submit(insert(number)) for number in range(1000)]
    committer.start()
    connection = committer.stop()
    assert connection is not None
    connection.close()
    assert all(future.result(timeout=0) == 1 for future in futures)


async def test_whoever_waits_for_a_stuck_journal_goes_on_and_its_job_is_not_begun_later(path: Path) -> None:
    with committing(path) as committer:
        is_stuck, may_go_on = threading.Event(), threading.Event()
        blocking = committer.submit(lambda _: (is_stuck.set(), may_go_on.wait(30)))
        await asyncio.to_thread(is_stuck.wait)
        with pytest.raises(JournalError, match="busy"):
            await committer.run(insert(1), patience_s=0.05)
        with pytest.raises(JournalError, match="has been busy"):
            await committer.run(insert(2), patience_s=0)
        may_go_on.set()
        await asyncio.wrap_future(blocking)
        assert await committer.run(insert(3)) == 1
    assert numbers(path) == [3]


async def test_a_database_that_somebody_else_holds_is_tried_again(path: Path) -> None:
    with committing(path) as committer, closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            await committer.run(insert(1))
        assert (committer.num_failures, committer.trouble is None) == (1, False)
        other.execute("COMMIT")
        assert await committer.run(insert(2)) == 1
        assert committer.trouble is None
    assert numbers(path) == [2]
