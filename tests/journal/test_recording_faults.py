"""What becomes of turns when the database, the disk or the process fails (PITFALLS, run under faults)."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
import sqlite3
import sys
from asyncio.subprocess import PIPE
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from metaclaw.chat.openai_chat import ChatAnswer, parse_request
from metaclaw.errors import JournalError
from metaclaw.journal.backlog import Backlog
from metaclaw.journal.spool import Spool, SpoolRecord
from metaclaw.journal.spooled_turns import TurnEnding, TurnOpening
from metaclaw.journal.turns import RawAnswer, RecordedTurn, TurnJournal, TurnReader
from metaclaw.journal.verification import verify

pytestmark = pytest.mark.anyio


def opening(turn_id: str, said: str = "hello", **changes: Any) -> SpoolRecord:
    body = {"model": "m", "messages": [{"role": "user", "content": said}]}
    fields: dict[str, Any] = {
        "id": turn_id, "agent": "main", "session": "s", "kind": "main", "upstream": "fake", "opened_at": 1.0,
        "request": parse_request(body), "body": json.dumps(body).encode(), **changes,
    }  # fmt: skip
    return TurnOpening(**fields).record()


def ending(turn_id: str, text: str = "hi", **changes: Any) -> SpoolRecord:
    answer = ChatAnswer(message={"role": "assistant", "content": text}, finish_reason="stop", usage=None)
    fields: dict[str, Any] = {"id": turn_id, "state": "done", "closed_at": 2.0, "answer": answer, **changes}
    return TurnEnding(**fields).record()


def turns(home: Path) -> list[RecordedTurn]:
    with TurnReader.open(home / "turns.db") as reader:
        return reader.turns()


async def until_in_trouble(journal: TurnJournal) -> None:
    while journal.state.trouble is None:  # noqa: ASYNC110 - it is another thread's
        await asyncio.sleep(0.01)


async def test_a_turn_that_was_appended_is_read_back_whole(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}
    chunks: list[dict[str, Any]] = [
        {"model": "m-1", "choices": [{"index": index, "delta": {"content": text}}]}
        for index, text in ((0, "one "), (1, "other"), (0, "answer"))
    ]
    data = [*map(json.dumps, [*chunks, {"choices": [], "usage": usage}]), "[DONE]"]
    events = "".join(f"data: {event}\n\n" for event in data).encode()
    raw = RawAnswer(dialect="openai.chat", content_type="text/event-stream; charset=utf-8", body=events)
    async with TurnJournal(tmp_path / "turns.db") as journal:
        journal.append(opening("t1", recalled=("a",), received_at=0.5, recall_s=0.25, access_key="laptop"))
        journal.append(ending("t1", answer=raw, status=200, attempts=({"upstream": "x"},), num_dropped=2, wait_s=0.1))
        await journal.flush()
        [turn] = turns(tmp_path)
    assert (turn.state, turn.answer) == ("done", {"role": "assistant", "content": "one answer"})
    assert turn.other_answers == ({"message": {"role": "assistant", "content": "other"}, "finish_reason": None},)
    assert (turn.prompt_tokens, turn.completion_tokens, turn.cached_tokens, turn.cost_usd) == (9, 4, 5, None)
    assert (turn.received_at, turn.recall_s, turn.wait_s, turn.num_dropped) == (0.5, 0.25, 0.1, 2)
    assert (turn.recalled, turn.attempts, turn.access_key) == (("a",), ({"upstream": "x"},), "laptop")
    assert turn.request == {"model": "m"}


async def test_a_locked_database_holds_nobody_up_and_what_was_said_is_written_later_in_order(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in range(5):
                journal.append(opening(f"t{number}", f"hello {number}"))
                journal.append(ending(f"t{number}", f"answer {number}"))
            await until_in_trouble(journal)
            with pytest.raises(JournalError, match=r"locked|busy"):
                await journal.pin_session("main", "s", 1, now=0, idle_s=1)
            assert journal.state.backlog.num_records == 10
            assert journal.state.backlog.num_bytes > 0
            assert journal.state.num_failures > 0
            assert turns(tmp_path) == []
            other.execute("COMMIT")
        await journal.flush()
        assert (journal.state.trouble, journal.state.backlog.num_records) == (None, 0)
        assert await journal.pin_session("main", "s", 1, now=0, idle_s=1) == 1
    assert [(turn.id, turn.state) for turn in turns(tmp_path)] == [(f"t{number}", "done") for number in range(5)]


async def test_a_journal_that_is_locked_at_the_start_is_opened_later(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        journal.append(opening("t1"))
    with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with TurnJournal(tmp_path / "turns.db") as journal:
            journal.append(opening("t2"))
            await until_in_trouble(journal)
            other.execute("COMMIT")
            await journal.flush()
            # What the first one left open was cut, and before what this one opened.
            assert [(turn.id, turn.state) for turn in turns(tmp_path)] == [("t1", "cut"), ("t2", "open")]


async def test_what_was_spooled_by_a_dead_process_is_written_once(tmp_path: Path) -> None:
    """A copy of the files at any moment is what kill -9 leaves."""
    (tmp_path / "live").mkdir()
    async with TurnJournal(tmp_path / "live" / "turns.db") as journal:
        journal.append(opening("t1"))
        journal.append(ending("t1"))
        await journal.flush()
        with closing(sqlite3.connect(tmp_path / "live" / "turns.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            journal.append(opening("t2", "half written"))
            journal.append(opening("t3"))
            journal.append(ending("t3", "said"))
            await asyncio.to_thread(shutil.copytree, tmp_path / "live", tmp_path / "dead")
            other.execute("COMMIT")
    segment = tmp_path / "dead" / "spool" / "00000001.log"
    segment.write_bytes(segment.read_bytes() + b"torn")
    for num_torn in (1, 0):
        async with TurnJournal(tmp_path / "dead" / "turns.db") as journal:
            states = [(turn.id, turn.state) for turn in turns(tmp_path / "dead")]
            assert states == [("t1", "done"), ("t2", "cut"), ("t3", "done")]
            assert journal.state.num_failures == num_torn
        assert list((tmp_path / "dead" / "spool").iterdir()) == []


async def test_damage_in_the_spool_costs_the_record_that_it_is_in_and_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.begin_after(0)
    places = [spool.append(record(f"t{number}")) for number in range(3) for record in (opening, ending)]
    spool.close()
    content = bytearray(spool.path(1).read_bytes())
    content[places[3].start + 20] ^= 0xFF  # the end of t1
    spool.path(1).write_bytes(content)
    async with TurnJournal(tmp_path / "turns.db") as journal:
        assert [turn.state for turn in turns(tmp_path)] == ["done", "cut", "done"]
        assert journal.state.num_failures == 1
        assert verify(tmp_path / "turns.db").problems == ()


async def test_a_segment_that_a_killed_process_had_no_time_to_delete_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", segment_bytes=1)  # a segment for each record
    spool.begin_after(0)
    for record in (opening, ending):
        spool.append(record("t1"))
    spool.close()
    with monkeypatch.context() as killed:
        killed.setattr(Backlog, "_discard_before", lambda _self, _segment: None)
        killed.setattr(Backlog, "close", lambda self, _connection: self.spool.close())
        async with TurnJournal(tmp_path / "turns.db"):
            assert [turn.state for turn in turns(tmp_path)] == ["done"]
    assert len(list((tmp_path / "spool").iterdir())) == 2
    async with TurnJournal(tmp_path / "turns.db") as journal:
        await journal.flush()
        assert journal.state.num_failures == 0


async def test_a_spool_that_cannot_be_read_keeps_no_gateway_from_its_work_and_stays(tmp_path: Path) -> None:
    unreadable = tmp_path / "spool" / "00000007.log"
    unreadable.mkdir(parents=True)  # as unreadable as what a run by root left
    async with TurnJournal(tmp_path / "turns.db") as journal:
        journal.append(opening("t1"))
        journal.append(ending("t1"))
        await journal.flush()
        assert journal.state.num_failures == 1
        [problem] = (await asyncio.to_thread(verify, tmp_path / "turns.db")).problems
        assert "00000007.log cannot be read" in problem
    assert [turn.state for turn in turns(tmp_path)] == ["done"]
    assert list((tmp_path / "spool").iterdir()) == [unreadable]


async def test_a_database_that_is_ruined_and_replaced_gets_what_was_spooled_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        journal.append(opening("t1"))
        await journal.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        good = path.read_bytes()
        path.write_bytes(good[:4096] + b"\xff" * (len(good) - 4096))
        journal.append(opening("t2"))
        await until_in_trouble(journal)
        journal.append(ending("t1"))
        path.write_bytes(good)
        await journal.flush()
    assert {turn.id: turn.state for turn in turns(tmp_path)} == {"t1": "done", "t2": "open"}


@pytest.mark.parametrize("is_put_back", [True, False])
async def test_a_database_that_is_removed_or_put_back_gets_what_is_recorded_from_then_on(
    tmp_path: Path, is_put_back: bool
) -> None:
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        journal.append(opening("t1"))
        journal.append(ending("t1"))
    shutil.copy(path, tmp_path / "backup")
    async with TurnJournal(path) as journal:
        journal.append(opening("t2"))
        journal.append(ending("t2"))
        await journal.flush()
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        shutil.rmtree(tmp_path / "spool")
        if is_put_back:
            (tmp_path / "backup").rename(path)
        journal.append(opening("t3"))
        journal.append(ending("t3"))
        await journal.flush()
    assert [(turn.id, turn.state) for turn in turns(tmp_path)][-1] == ("t3", "done")
    assert len(turns(tmp_path)) == 1 + is_put_back
    assert (await asyncio.to_thread(verify, path)).problems == ()


@pytest.mark.parametrize("later", [["later"], []])
async def test_a_database_that_is_put_back_over_the_other_is_what_it_was(tmp_path: Path, later: list[str]) -> None:
    """As `rsync` and file managers do it. The log of the former file was read into it: what it had was gone."""
    path = tmp_path / "turns.db"
    async with TurnJournal(path) as journal:
        for number in range(300):
            journal.append(opening(f"old{number}"))
            journal.append(ending(f"old{number}"))
    path.rename(tmp_path / "backup")
    async with TurnJournal(path) as journal:
        for number in range(20):
            journal.append(opening(f"new{number}"))
            journal.append(ending(f"new{number}"))
        await journal.flush()
        (tmp_path / "backup").replace(path)
        for name in later:
            journal.append(opening(name))
            journal.append(ending(name))
        await journal.flush()
    assert (await asyncio.to_thread(verify, path)).problems == ()
    assert [turn.id for turn in turns(tmp_path)] == [*(f"old{number}" for number in range(300)), *later]


async def test_a_record_that_can_never_be_written_does_not_stop_the_others(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        journal.append(opening("t1"))
        journal.append(opening("t1", "the same id again"))
        journal.append(ending("nobody opened it"))
        journal.append(opening("t2"))
        broken = RawAnswer(dialect="openai.chat", content_type="application/json", body=b"{")
        journal.append(ending("t2", answer=broken))
        await journal.flush()
        assert journal.state.num_failures > 0
        assert journal.state.backlog.num_records == 0
    states = {turn.id: (turn.state, turn.answer) for turn in turns(tmp_path)}
    assert states == {"t1": ("open", None), "t2": ("done", None)}


def held_backlog(folder: Path, max_bytes: int) -> Backlog:
    (folder / "no-folder").touch()
    spool = Spool(folder / "no-folder")  # nothing can be written there
    return Backlog(spool, lambda _, record: record.header["n"], max_held_bytes=max_bytes)


async def test_without_a_spool_the_oldest_bodies_are_given_up_first_and_counted(tmp_path: Path) -> None:
    backlog = held_backlog(tmp_path, 10_000)
    for number in range(8):
        backlog.append(SpoolRecord(header={"n": number}, parts=(b"x" * 2000,)))
    state = backlog.state
    assert state.num_records == state.num_spool_failures == state.num_held == 8
    assert 0 < state.num_stripped < 8
    assert state.num_lost == 0
    for number in range(8, 100):
        backlog.append(SpoolRecord(header={"n": number}, parts=(b"x" * 2000,)))
    assert backlog.state.num_lost > 0
    written: list[int] = []
    backlog.on_written = written.extend
    with closing(sqlite3.connect(":memory:")) as db:
        while backlog.has_more:
            backlog.write(db, lambda: False)
            backlog.committed()
    assert written == sorted(written)
    assert len(written) == 100 - backlog.state.num_lost
    assert (backlog.state.num_records, backlog.state.num_held) == (0, 0)


FULL = """
import asyncio, resource, sys
from pathlib import Path
from metaclaw.journal.verification import verify
from metaclaw.journal.turns import TurnJournal
from tests.journal.test_recording_faults import ending, opening

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main(home):
    async with TurnJournal(home / "turns.db") as journal:
        journal.append(opening("t0"))
        await journal.flush()
        for size, turn in ((sys.maxsize, 1), (int(sys.argv[2]), 2)):
            if turn == 2:
                limit(size)
            journal.append(opening(f"t{turn}", "x" * 50_000))
            journal.append(ending(f"t{turn}", "y" * 50_000))
        while journal.state.trouble is None:
            await asyncio.sleep(0.01)
        print(journal.state.backlog.num_records > 0, journal.state.backlog.num_spool_failures)
        limit(resource.RLIM_INFINITY)
        await journal.flush()
        print(journal.state.trouble, journal.state.backlog.num_records)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_what_had_no_room_in_the_spool_is_spooled_at_the_end_if_there_is_room_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_spool: Spool, _record: SpoolRecord) -> NoReturn:
        raise OSError(errno.ENOSPC, "no room")

    with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as other:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            other.execute("BEGIN IMMEDIATE")
            with monkeypatch.context() as disk:
                disk.setattr(Spool, "append", full)
                journal.append(opening("t1"))
                journal.append(opening("t2"))
            journal.append(ending("t1"))
            await until_in_trouble(journal)
        assert "3 records stay in" in caplog.text
        other.execute("COMMIT")
        caplog.clear()
        async with TurnJournal(tmp_path / "turns.db") as journal:
            await journal.flush()
            assert journal.state.num_failures == 0
            assert not [record for record in caplog.records if record.exc_info]  # each of them was there once
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr(Spool, "append", full)
            journal.append(opening("t3"))
            await until_in_trouble(journal)
        assert "1 records are lost" in caplog.text
    assert [(turn.id, turn.state) for turn in turns(tmp_path)] == [("t1", "done"), ("t2", "cut")]


@pytest.mark.parametrize("is_spool_full", [False, True])
async def test_a_full_disk_costs_no_turn(tmp_path: Path, is_spool_full: bool) -> None:
    """A limit on the size of files is what a process can do to itself of a full disk."""
    limit = 10_000 if is_spool_full else 250_000  # the spool of this has 200 kB, and the database's log is longer
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL, str(tmp_path), str(limit), stdout=PIPE, stderr=PIPE
    )
    out, errors = await child.communicate()
    lines = out.decode().splitlines()
    assert lines[-1:] == ["None 0"], errors.decode()
    assert lines[0] == f"True {2 if is_spool_full else 0}"
    assert [(turn.id, turn.state) for turn in turns(tmp_path)] == [("t0", "open"), ("t1", "done"), ("t2", "done")]
