"""The log is written back beside the one that writes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.log_keeper import LogKeeper, write_back
from metaclaw.journal.turns import TurnJournal
from tests.journal.test_turns import new_turn, read, user

pytestmark = pytest.mark.anyio
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turns.db"


@contextmanager
def writing(path: Path, keeper: LogKeeper) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(path, "turns")) as connection:
        connection.execute("CREATE TABLE filling (number INTEGER PRIMARY KEY, bytes BLOB)")
        keeper.relieve(connection)
        keeper.start()
        try:
            yield connection
        finally:
            keeper.stop()


def fill(connection: sqlite3.Connection, num_rows: int) -> None:
    with transaction(connection):
        connection.executemany("INSERT INTO filling (bytes) VALUES (zeroblob(?))", [(PAGE,)] * num_rows)


def num_pages_in_file(path: Path) -> int:
    return path.stat().st_size // PAGE


def test_who_writes_does_not_write_the_log_back(path: Path) -> None:
    keeper = LogKeeper(path)
    with writing(path, keeper) as connection:
        before = num_pages_in_file(path)
        fill(connection, 3000)  # thrice what SQLite itself lets the log have
        assert num_pages_in_file(path) == before


def test_a_long_log_is_written_back_by_the_keeper(path: Path) -> None:
    keeper = LogKeeper(path)
    with writing(path, keeper) as connection:
        for _ in range(3):
            before, until = num_pages_in_file(path), time.monotonic() + 10
            fill(connection, 4000)
            keeper.committed(connection)
            while num_pages_in_file(path) < before + 4000 and time.monotonic() < until:
                time.sleep(0.01)
            assert num_pages_in_file(path) >= before + 4000


def test_a_log_that_was_written_back_begins_anew(path: Path) -> None:
    with writing(path, LogKeeper(path)) as connection:
        lengths: list[int] = []
        for _ in range(3):
            fill(connection, 1000)
            write_back(path)
            lengths.append(path.with_name(path.name + "-wal").stat().st_size)
        assert lengths[2] < 1.5 * lengths[0]


def test_a_log_that_cannot_be_written_back_stops_nobody(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = LogKeeper(path.with_name("none.db"))
    with writing(path, keeper) as connection:
        until = time.monotonic() + 10
        while "could not be written back" not in caplog.text and time.monotonic() < until:
            fill(connection, 4000)
            keeper.committed(connection)
            time.sleep(0.01)
        assert "could not be written back" in caplog.text
    assert not path.with_name("none.db").exists()


async def test_nothing_is_lost_where_it_is_written_back_in_between(path: Path) -> None:
    async with TurnJournal(path) as journal:
        for number in range(20):
            await asyncio.gather(
                journal.open_turn(new_turn(f"t{number}", user(f"what of {number}?"))),
                asyncio.to_thread(write_back, path),
            )
    assert not path.with_name(path.name + "-wal").exists()
    with read(path) as reader:
        assert [turn.id for turn in reader.turns()] == [f"t{number}" for number in range(20)]
