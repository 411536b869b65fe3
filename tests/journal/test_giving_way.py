"""A few records wait while a turn's blocks are about to be claimed; many, or those that somebody waits for, do not."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from metaclaw.journal.turns import BlockKey, RecallBlock, TurnJournal
from tests.journal.test_recording_faults import opening, turns

pytestmark = pytest.mark.anyio
BLOCK = (BlockKey(b"k" * 32, 0), RecallBlock(text="a"))
FEW = 128
LONG_S = 0.4  # more than records wait for others


async def until_written(home: Path, number: int) -> None:
    async with asyncio.timeout(10):
        while len(turns(home)) < number:  # noqa: ASYNC110 - it is another thread's
            await asyncio.sleep(0.01)


async def test_records_wait_for_a_claim_that_is_coming_and_not_longer(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with journal.claiming():
            journal.append(opening("t1"))
            await asyncio.sleep(LONG_S)
            assert turns(tmp_path) == []
        await journal.claim_blocks("main", "t1", [BLOCK], now=1.0)
        await until_written(tmp_path, 1)


async def test_records_do_not_wait_for_a_claim_that_never_comes(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with journal.claiming():
            journal.append(opening("t1"))
            await asyncio.sleep(LONG_S)
        await until_written(tmp_path, 1)


async def test_many_records_are_written_whoever_is_coming(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with journal.claiming():
            for number in range(300):
                journal.append(opening(f"t{number}"))
            await until_written(tmp_path, 300 - FEW)


async def test_who_waits_for_records_gets_them(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with journal.claiming():
            for number in range(20):
                journal.append(opening(f"t{number}"))
            await journal.flush()
            assert len(turns(tmp_path)) == 20


async def test_a_journal_that_was_in_trouble_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        with journal.claiming():
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                for number in range(200):
                    journal.append(opening(f"t{number}"))
                async with asyncio.timeout(10):
                    while journal.state.trouble is None:  # noqa: ASYNC110 - it is another thread's
                        await asyncio.sleep(0.01)
            await until_written(tmp_path, 200 - FEW)
    assert len(turns(tmp_path)) == 200


async def test_a_journal_is_closed_with_all_that_waits(tmp_path: Path) -> None:
    with ExitStack() as claiming:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            claiming.enter_context(journal.claiming())
            journal.append(opening("t1"))
        assert len(turns(tmp_path)) == 1
