"""Blocks are written by the first, and only a forgotten memory is ever taken out of one."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.descent import RECALLED, turns_that_held
from metaclaw.journal.erasing import empty_log, erase_memories, is_erasure_due, rewrite_blocks
from metaclaw.journal.recall_blocks import insert_blocks, memories_in_blocks
from metaclaw.journal.retention import Retention, erase_stopped
from metaclaw.journal.turns import BlockKey, RecallBlock, TurnEnd, TurnJournal, TurnReader, Weighed
from tests.journal.test_turns import SAMPLE, done, new_turn, user

pytestmark = pytest.mark.anyio
KEY, OTHER = BlockKey(b"k" * 32, 0), BlockKey(b"o" * 32, 0)
BLOCK = RecallBlock(text="<a|b|c>", items=("skill", "memory:m1", "memory:m2"), spans=((1, 2), (3, 4), (5, 6)))


async def test_the_first_block_counts_whoever_writes_at_the_same_time(tmp_path: Path) -> None:
    other = RecallBlock(text="<b>", items=("memory:m9",), spans=((1, 2),))
    async with TurnJournal(tmp_path / "turns.db") as journal:
        claims = [journal.claim_blocks("main", f"t{n}", [(KEY, BLOCK if n % 2 else other)], now=1.0) for n in range(8)]
        claimed = [block for [block] in await asyncio.gather(*claims)]
        assert len(set(claimed)) == 1
        # Only the memories of the block that counts are said to be somewhere.
        assert await journal.recalled_memories() == [
            name.removeprefix("memory:") for name in claimed[0].items if name.startswith("memory:")
        ]


async def test_a_forgotten_memory_leaves_no_word_in_any_block(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    secret = "the-forgotten-words"
    block = RecallBlock(text=f"<{secret}|rest>", items=("memory:m1", "memory:m2"), spans=((1, 20), (21, 25)))
    async with TurnJournal(path) as journal:
        await journal.claim_blocks("main", "t1", [(KEY, block), (OTHER, BLOCK)], now=1.0)
        assert await journal.erase_memories(["m1", "never-there"]) == 2
        assert await journal.recalled_memories() == ["m2"]
        first, second = await journal.known_blocks("main", [KEY, OTHER])
        assert first == RecallBlock(text="<|rest>", items=("memory:m2",), spans=((2, 6),), turn="t1")
        assert second == RecallBlock(text="<a||c>", items=("skill", "memory:m2"), spans=((1, 2), (4, 5)), turn="t1")
    assert secret.encode() not in path.read_bytes()
    with TurnReader.open(path) as reader:
        assert reader.recalled_memories() == ["m2"]


def test_no_page_keeps_a_copy_of_what_was_erased(tmp_path: Path) -> None:
    """SQLite leaves copies of rows behind when it splits a page: without writing anew this finds one."""
    path, chance = tmp_path / "turns.db", Random(7)
    blocks = {f"m{number}": f"words-{number}-" + "x" * chance.randrange(20, 3000) for number in range(600)}
    with closing(open_writer(path, "turns")) as connection:
        for memory, text in blocks.items():
            block = RecallBlock(text=text, items=(f"memory:{memory}",), spans=((0, len(text)),))
            with transaction(connection):
                insert_blocks(connection, "main", "t1", [(BlockKey(chance.randbytes(32), 0), block)], 1.0)
        gone = chance.sample(sorted(blocks), 100)
        with transaction(connection):
            assert erase_memories(connection, gone, max_rewritten=10) == 100
            assert is_erasure_due(connection)  # they are too many for this moment
        with transaction(connection):
            assert rewrite_blocks(connection)
        assert not is_erasure_due(connection)
        assert len(memories_in_blocks(connection)) == 500
    assert empty_log(path)
    left = path.read_bytes()
    assert [memory for memory, text in blocks.items() if text.encode()[:12] in left and memory in gone] == []
    with TurnReader.open(path) as reader:
        assert sorted(reader.recalled_memories()) == sorted(blocks.keys() - set(gone))


async def test_a_stopped_gateway_s_blocks_are_erased_and_a_running_one_does_it_itself(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    assert erase_stopped(path, ["m1"])  # there is nothing
    async with TurnJournal(path) as journal:
        await journal.claim_blocks("main", "t1", [(KEY, BLOCK)], now=1.0)
        assert not erase_stopped(path, ["m1"])
    assert erase_stopped(path, ["m1"])
    with TurnReader.open(path) as reader:
        assert reader.recalled_memories() == ["m2"]


async def test_what_the_policy_drew_after_a_memory_was_recalled_loses_its_prompt(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        for name, session in (("before", "s"), ("with", "s"), ("after", "s"), ("elsewhere", "z")):
            await journal.open_turn(new_turn(name, user(name), session=session))
            await journal.close_turn(name, done(sample=SAMPLE))
            if name == "with":
                await journal.claim_blocks("main", name, [(KEY, BLOCK)], now=1.0)
        await journal.erase_memories(["m1"])
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT turn, length(prompt_tokens), untrainable FROM samples ORDER BY turn"
        ).fetchall()
    why = "a memory in its prompt was forgotten"
    assert rows == [("after", 0, why), ("before", 4, None), ("elsewhere", 4, None), ("with", 0, why)]


async def test_a_fork_into_another_session_held_the_memory_too(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    hello, asked, other = user("hello"), user("Where do I live?"), user("What is the time?")
    internal = {"role": "user", "content": "<system-reminder>Mind this.</system-reminder>"}
    answer = {"role": "assistant", "content": "Hi."}
    turns = {
        "with": ("s", (hello, answer, asked, internal)),
        "fork": ("z", (user("Be brief."), hello, answer, asked, {"role": "assistant", "content": "Oslo"}, other)),
        "before-it": ("y", (hello, answer, other)),
        "said-elsewhere": ("x", (hello, {"role": "assistant", "content": "Good day."}, asked)),
    }
    async with TurnJournal(path) as journal:
        for name, (session, messages) in turns.items():
            await journal.open_turn(new_turn(name, *messages, session=session))
            await journal.close_turn(name, done(sample=SAMPLE))
        await journal.claim_blocks("main", "with", [(KEY, BLOCK)], now=1.0)
        await journal.erase_memories(["m1"])
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT turn FROM samples WHERE prompt_tokens = x'' ORDER BY turn").fetchall()
    assert rows == [("fork",), ("with",)]


async def test_what_was_weighed_is_read_back_and_goes_with_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    weighed = (
        Weighed(kind="memory", item="m1", score=0.5, outcome="budget"),
        Weighed(kind="skill", item="one", score=2.5, outcome="recalled"),
    )
    async with TurnJournal(path) as journal:
        whose = {"user": "ann", "workspace": "lab", "memory_scope": "user"}
        await journal.open_turn(new_turn("t1", user("x"), weighed=weighed, **whose))
        await journal.close_turn("t1", TurnEnd(state="done", closed_at=2.0))
        await journal.claim_blocks("main", "t1", [(KEY, BLOCK)], now=1.0)
        with TurnReader.open(path) as reader:
            assert reader.weighed("t1") == [weighed[1], weighed[0]]
            recorded = reader.turn("t1")
            assert recorded is not None
            assert (recorded.user, recorded.workspace, recorded.memory_scope) == ("ann", "lab", "user")
        assert await journal.prune(Retention(max_age_days=1), frozenset(), 1e9) == 1
        with TurnReader.open(path) as reader:
            assert reader.weighed("t1") == []
            assert reader.recalled_memories() == []


async def test_a_block_of_an_older_release_goes_as_a_whole(tmp_path: Path) -> None:
    old = RecallBlock(text="<a|b>", items=("skill", "memory:m1"))
    async with TurnJournal(tmp_path / "turns.db") as journal:
        await journal.claim_blocks("main", "t1", [(KEY, old)], now=1.0)
        await journal.erase_memories(["m1"])
        assert await journal.known_blocks("main", [KEY]) == [RecallBlock(text="", turn="t1")]


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    path.write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    with pytest.raises(JournalError, match="cannot open the journal"):
        erase_stopped(path, ["m1"])


async def test_the_turns_of_a_memory_are_found_by_an_index_that_holds_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    weighed = (
        Weighed(kind="memory", item="m1", score=1.0, outcome="recalled"),
        Weighed(kind="memory", item="m2", score=0.1, outcome="threshold"),
        Weighed(kind="skill", item="s", score=1.0, outcome="recalled"),
    )
    async with TurnJournal(path) as journal:
        await journal.open_turn(new_turn("t1", user("x"), weighed=weighed))
    assert turns_that_held(path, ["m1"]) == {"t1"}
    assert turns_that_held(path, ["m2", "s"]) == frozenset()
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {RECALLED}", ('["m1"]',)).fetchall()
    assert any("USING INDEX recalled_memories" in step for *_, step in plan)
