"""One writing thread, whatever becomes of those who wait for it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaclaw.errors import JournalError
from metaclaw.journal.group_commit import GroupCommitter

pytestmark = pytest.mark.anyio


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    db.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    yield db
    db.close()


def insert(number: int) -> object:
    return lambda db: db.execute("INSERT INTO numbers VALUES (?)", (number,)).rowcount


async def test_a_job_is_done_when_its_waiter_left_before_it_began(connection: sqlite3.Connection) -> None:
    committer = GroupCommitter(connection, name="test")
    committer.start()
    may_go_on = threading.Event()
    blocking = committer.submit(lambda _: may_go_on.wait(10))
    waiting = asyncio.create_task(committer.run(insert(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0.01)
    may_go_on.set()
    await asyncio.wrap_future(blocking)
    assert await asyncio.wait_for(committer.run(insert(2)), 5) == 1
    committer.stop()
    assert connection.execute("SELECT n FROM numbers ORDER BY n").fetchall() == [(1,), (2,)]


async def test_a_commit_that_fails_is_told_to_all_who_wait_and_the_next_one_works(
    connection: sqlite3.Connection,
) -> None:
    committer = GroupCommitter(connection, name="test")
    committer.start()

    def break_transaction(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")

    with pytest.raises(JournalError):
        await committer.run(break_transaction)
    assert await committer.run(insert(1)) == 1
    with pytest.raises(ZeroDivisionError):
        await committer.run(lambda _: 1 // 0)
    committer.stop()
    with pytest.raises(JournalError, match="closed"):
        committer.submit(insert(2))


async def test_what_was_handed_in_is_done_before_the_end(connection: sqlite3.Connection) -> None:
    committer = GroupCommitter(connection, name="test")
    futures = [committer.submit(insert(number)) for number in range(1000)]
    committer.start()
    committer.stop()
    assert all(future.result(timeout=0) == 1 for future in futures)
