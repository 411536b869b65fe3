"""``turns.db``: written once, read back whole, kept through kill -9."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE
from contextlib import closing
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from metaclaw.chat.messages import freeze
from metaclaw.errors import JournalError
from metaclaw.journal.turns import (
    BlockKey,
    NewTurn,
    PolicySample,
    RecallBlock,
    TurnEnd,
    TurnJournal,
    TurnReader,
)

pytestmark = pytest.mark.anyio

SAMPLE = PolicySample(
    agent="main", version=3, model="tinker://x", prompt_tokens=b"\1\0\0\0", tokens=b"\2\0\0\0",
    logprobs=b"\0\0\0\0", logprobs_full=b"\0\0\0\0", temperature=0.7, top_p=1.0, top_k=-1, seed=None,
    stop_reason="stop", spans=(("text", 0, 1), ("end", 1, 1)), renderer="ab", untrainable=None,
)  # fmt: skip
SAID = {"role": "assistant", "content": "Hi there."}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def new_turn(turn_id: str, *messages: dict[str, Any], **changes: Any) -> NewTurn:
    turn = NewTurn(
        id=turn_id, agent="main", session="s", exchange="e1", kind="main", dialect="openai.chat", model="m",
        upstream="policy", request='{"stream":true}', messages=tuple(freeze(message) for message in messages),
        opened_at=1.0,
    )  # fmt: skip
    return replace(turn, **changes)


def done(**changes: Any) -> TurnEnd:
    end = TurnEnd(state="done", closed_at=2.0, answer=freeze(SAID), finish_reason="stop", usage={"total_tokens": 5})
    return replace(end, **changes)


def read(path: Path) -> TurnReader:
    return TurnReader.open(path)


async def test_a_turn_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    history = [{"role": "system", "content": "Be brief."}, user("hello \ud800")]
    async with TurnJournal(path) as journal:
        await journal.open_turn(new_turn("t1", *history, recalled=("a", "b")))
        with read(path) as reader:
            assert [(turn.state, turn.closed_at) for turn in reader.turns()] == [("open", None)]
        await journal.close_turn("t1", done(sample=SAMPLE, first_byte_at=1.5, status=200))
    with read(path) as reader:
        turn = reader.turn("t1")
        assert turn is not None
        assert (turn.state, turn.answer, turn.usage, turn.recalled) == ("done", SAID, {"total_tokens": 5}, ("a", "b"))
        assert (turn.request, turn.first_byte_at, turn.closed_at) == ({"stream": True}, 1.5, 2.0)
        assert reader.messages(turn) == history
        assert reader.sample("t1") == SAMPLE
        assert reader.last_seq() == turn.seq == 1
        assert reader.turn("t2") is None


async def test_a_history_that_is_sent_again_costs_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    history: list[dict[str, Any]] = []
    async with TurnJournal(path) as journal:
        for number in range(20):
            history += [user(f"question {number}"), {"role": "assistant", "content": f"answer {number}"}]
            await journal.open_turn(new_turn(f"t{number}", *history, user("again")))
    with read(path) as reader, sqlite3.connect(path) as db:
        assert all(reader.messages(turn) == [*history[: 2 * turn.seq], user("again")] for turn in reader.turns())
        assert db.execute("SELECT count(*) FROM messages").fetchone() == (41,)
        assert db.execute("SELECT count(*) FROM links").fetchone() == (60,)
    db.close()


async def test_only_the_first_end_of_a_turn_counts(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        await journal.open_turn(new_turn("t1", user("x")))
        await journal.close_turn("t1", done(state="cut"))
        await journal.close_turn("t1", done(sample=SAMPLE))
    with read(path) as reader:
        assert [turn.state for turn in reader.turns()] == ["cut"]
        assert reader.sample("t1") is None


async def test_text_that_utf8_cannot_hold_is_recorded_escaped(tmp_path: Path) -> None:
    """A lone surrogate in a model's name failed the opening, and the end was then recorded nowhere."""
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        await journal.open_turn(new_turn("t1", {"role": "us\ud800er", "content": "x"}, model="m\ud800"))
        sample = replace(SAMPLE, stop_reason="\ud800")
        await journal.close_turn("t1", done(state="failed", error="no \udfff", finish_reason="\ud800", sample=sample))
    with read(path) as reader:
        [turn] = reader.turns()
        assert (turn.model, turn.error, turn.finish_reason) == ("m\\ud800", "no \\udfff", "\\ud800")
        assert reader.messages(turn) == [{"role": "us\ud800er", "content": "x"}]


async def test_the_end_of_a_turn_whose_opening_was_not_recorded_is_a_failure(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with pytest.raises(JournalError, match="opening of t1 was not recorded"):
            await journal.close_turn("t1", done())


async def test_exchanges_are_read_with_their_turns_and_their_place_in_the_session(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "ls"}}]}
    loop = [user("[Sun 2026-11-22 15:46 UTC] list files"), call, {"role": "tool", "content": "a.txt"}]
    async with TurnJournal(path) as journal:
        await journal.open_turn(new_turn("t1", loop[0], recalled=("ls-skill",)))
        await journal.close_turn("t1", done(answer=freeze(call)))
        await journal.open_turn(new_turn("side", user("title?"), kind="side", exchange="e2"))
        await journal.open_turn(new_turn("t2", *loop))
        with read(path) as reader:
            exchange = reader.exchange("e1")
            assert exchange is not None
            assert (exchange.is_open, exchange.has_later, exchange.closed_at) == (True, False, 2.0)
        await journal.close_turn("t2", done(closed_at=4.0))
        await journal.open_turn(new_turn("t3", *loop, SAID, user("thanks"), exchange="e3"))
    with read(path) as reader:
        first, last = reader.exchanges()
        assert [turn.id for turn in first.turns] == ["t1", "t2"]
        assert (first.human, first.answer, first.recalled) == ("list files", "Hi there.", ("ls-skill",))
        assert (first.is_open, first.has_later, first.closed_at) == (False, True, 4.0)
        assert (last.id, last.human, last.answer, last.is_open, last.has_later) == ("e3", "thanks", "", True, False)
        assert [exchange.id for exchange in reader.exchanges(after_seq=first.turns[-1].seq)] == ["e3"]
        assert reader.exchanges(agent="other") == []


async def test_the_first_writer_of_a_block_wins(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    key, other = BlockKey(b"k" * 32, 0), BlockKey(b"k" * 32, 1)
    async with TurnJournal(path) as journal:
        claims = [
            journal.claim_blocks("main", f"t{n}", [(key, RecallBlock(text=f"text {n}", items=(f"s{n}",)))], now=1.0)
            for n in range(20)
        ]
        won = [block for [block] in await asyncio.gather(*claims)]
        assert len(set(won)) == 1
        assert await journal.known_blocks("main", [key, other]) == [won[0], None]
        assert await journal.known_blocks("ops", [key]) == [None]
    async with TurnJournal(path) as journal:
        assert await journal.known_blocks("main", [other, key]) == [None, won[0]]


async def test_a_session_keeps_its_version_until_it_is_idle(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        assert await journal.pin_session("main", "s", 1, now=0, idle_s=10) == 1
        assert await journal.pin_session("main", "s", 2, now=9, idle_s=10) == 1
        assert await journal.pin_session("main", "s", 2, now=19, idle_s=10) == 1
        assert await journal.pin_session("main", "s", 2, now=30, idle_s=10) == 2
        await journal.repin_session("main", "s", 5, now=31)
        assert await journal.pin_session("main", "s", 2, now=32, idle_s=10) == 5


async def test_many_writers_share_commits_and_one_that_fails_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        writes = [journal.open_turn(new_turn(f"t{n // 2}", user(f"m{n}"))) for n in range(40)]
        results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, JournalError) for result in results] == [False, True] * 20
    with read(path) as reader, sqlite3.connect(path) as db:
        assert len(reader.turns()) == 20
        assert db.execute("SELECT count(*) FROM messages").fetchone() == (20,)
    db.close()


async def test_a_record_is_made_even_if_nobody_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        waiting = asyncio.create_task(journal.open_turn(new_turn("t1", user("x"))))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    with read(path) as reader:
        assert len(reader.turns()) == 1


async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """PITFALLS, run under faults: a second instance on the same home truncated the records."""
    path = tmp_path / "turns.db"
    async with TurnJournal(path):
        with pytest.raises(JournalError, match="another MetaClaw gateway"):
            TurnJournal(path).open()
    async with TurnJournal(path):
        pass  # it is free again


async def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    """PITFALLS, run under faults: a database that could not be opened was renamed and overwritten."""
    path = tmp_path / "turns.db"
    path.write_bytes(b"precious but not SQLite" * 100)
    with pytest.raises(JournalError, match="Nothing in it was changed"):
        TurnJournal(path).open()
    assert path.read_bytes() == b"precious but not SQLite" * 100


async def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        pass
    with pytest.raises(JournalError, match="closed"):
        await journal.open_turn(new_turn("t1", user("x")))


async def test_everything_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """PITFALLS, run under faults: kill -9 right after the acknowledgement kept 1 of 5 sessions."""
    path = tmp_path / "turns.db"
    for _ in range(3):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.journal.writing_child", str(path), stdout=PIPE
        )
        assert child.stdout is not None
        lines = [(await child.stdout.readline()).split() for _ in range(150)]
        child.kill()
        lines += [
            line.split() for line in (await child.stdout.read()).splitlines(keepends=True) if line.endswith(b"\n")
        ]
        await child.wait()
        async with TurnJournal(path):
            pass  # what was open is closed when the next gateway starts
        with read(path) as reader:
            for what, turn_id in lines:
                turn = reader.turn(turn_id.decode())
                assert turn is not None
                assert turn.state in (("done",) if what == b"closed" else ("done", "cut"))
                assert reader.messages(turn)
                assert (reader.sample(turn.id) is not None) == (turn.state == "done")


async def test_a_journal_of_the_first_release_is_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    first = resources.files("metaclaw.journal").joinpath("migrations/turns_0001.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as old:
        old.executescript(first)
        old.execute(
            """
            INSERT INTO turns (id, agent, session, exchange, kind, dialect, model, upstream, request, state, opened_at)
            VALUES ('t1', 'main', 's', 'e1', 'main', 'openai.chat', 'm', 'fake', '{}', 'open', 1.0)
            """
        )
        old.execute("PRAGMA user_version = 1")
        old.commit()
    with pytest.raises(JournalError, match="older release"):
        read(path)
    async with TurnJournal(path) as journal:
        await journal.open_turn(new_turn("t2", user("x")))
    with read(path) as reader:
        assert [(turn.id, turn.state, turn.cost_usd) for turn in reader.turns()] == [
            ("t1", "cut", None),
            ("t2", "open", None),
        ]
