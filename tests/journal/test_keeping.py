"""What is given up, what stays, and whether the rest is whole."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metaclaw.cli.main import app
from metaclaw.errors import JournalError
from metaclaw.journal import retention
from metaclaw.journal.database import open_writer
from metaclaw.journal.export import export_turns
from metaclaw.journal.feedback import NewFeedback
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Sample
from metaclaw.journal.retention import Retention, prune_stopped
from metaclaw.journal.turns import TurnJournal, TurnReader
from metaclaw.journal.verification import verify
from metaclaw.memory.audit import files_with
from tests.journal.test_recording_faults import opening
from tests.journal.test_turns import SAID, SAMPLE, done, new_turn, user

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0


async def talk(home: Path, num_turns: int = 6) -> None:
    """One conversation of which each turn is a day after the one before; then one with other words."""
    async with TurnJournal(home / "turns.db") as journal:
        history = []
        for number in range(num_turns):
            history = [*history, user(f"question {number}")]
            turn = new_turn(f"t{number}", *history, exchange=f"e{number}", opened_at=number * DAY_S)
            await journal.open_turn(turn)
            await journal.close_turn(turn.id, done(closed_at=number * DAY_S + 1))
            history = [*history, SAID]
        await journal.open_turn(new_turn("other", user("x" * 1000), exchange="other", opened_at=0.0))
        await journal.close_turn("other", done(sample=replace(SAMPLE, version=1)))
        await journal.open_turn(new_turn("open", user("still"), opened_at=0.0))


def kept(home: Path) -> list[str]:
    with TurnReader.open(home / "turns.db") as reader:
        return [turn.id for turn in reader.turns()]


def prune(home: Path, now: float, **limits: Any) -> int:
    return prune_stopped(home / "turns.db", home / "learning.db", Retention(**limits), now=now)


async def test_old_turns_go_with_what_only_they_held_and_the_rest_stays_whole(tmp_path: Path) -> None:
    await talk(tmp_path)
    assert prune(tmp_path, 20 * DAY_S, max_age_days=17.5) == 4
    assert kept(tmp_path) == ["t3", "t4", "t5", "open"]
    found = verify(tmp_path / "turns.db")
    assert found.problems == ()
    with TurnReader.open(tmp_path / "turns.db") as reader:
        assert [len(reader.messages(turn)) for turn in reader.turns()] == [7, 9, 11, 1]
    assert prune(tmp_path, 100 * DAY_S, max_age_days=1) == 3
    assert verify(tmp_path / "turns.db").num_messages == 1


async def test_an_agent_may_have_its_turns_kept_for_longer_or_shorter_than_the_rest(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        for agent in ("main", "short", "long"):
            await journal.open_turn(new_turn(agent, user(agent), agent=agent, exchange=agent, opened_at=0.0))
            await journal.close_turn(agent, done())
    of = {"short": 1.0, "long": 0.0}
    assert prune(tmp_path, 2 * DAY_S, max_age_days=30, max_age_days_of=of) == 1
    assert kept(tmp_path) == ["main", "long"]
    assert prune(tmp_path, 99 * DAY_S, max_age_days=30, max_age_days_of=of) == 1
    assert kept(tmp_path) == ["long"]


async def test_a_session_goes_alone_with_what_was_thought_of_it_down_to_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC C: delete-my-data."""
    monkeypatch.setenv("METACLAW_HOME", str(tmp_path))
    async with TurnJournal(tmp_path / "turns.db") as journal:
        for number, session in enumerate(("mine", "theirs", "mine", "mine")):
            said = [user("xylophonebarn" if session == "mine" else "hello"), user(f"question {number}")]
            turn = new_turn(f"t{number}", *said, session=session, exchange=f"e{number}", opened_at=1.0)
            await journal.open_turn(turn)
            if number != 3:  # a gateway that was killed left it open
                await journal.close_turn(turn.id, done())
            about = NewFeedback(turn=turn.id, agent="main", session=None, only_agent=None, score=1.0,
                                text=f"of {session}", source="user", created_at=2.0)  # fmt: skip
            await journal.add_feedback(about)
    sample = Sample(turn="t2", exchange="e2", agent="main", version=0, reward=1.0, sampled_at=0.0)
    with LearningJournal.open(tmp_path / "learning.db") as learning:
        learning.record_verdict(exchange="e2", agent="main", judge="j", score=1.0, detail={}, samples=[sample])
    run = CliRunner().invoke
    pruned = run(app, ["journal", "prune", "--session", "mine", "--json"])
    assert json.loads(pruned.stdout) == {"pruned": 2, "left": 1}
    assert kept(tmp_path) == ["t1", "t2"]
    (tmp_path / "learning.db").unlink()
    assert "1 turn given up" in run(app, ["journal", "prune", "--session", "mine"]).stdout
    assert kept(tmp_path) == ["t1"]
    assert verify(tmp_path / "turns.db").problems == ()
    with TurnReader.open(tmp_path / "turns.db") as reader:
        assert [one.text for one in reader.feedback_after(0, limit=9)] == ["of theirs"]
    assert files_with(tmp_path, "xylophonebarn") == []
    for wrong in (
        ["--session", "mine"],
        ["--session", "theirs", "--agent", "other"],
        ["--session", "theirs", "--max-age-days", "1"],
    ):
        assert run(app, ["journal", "prune", *wrong]).exit_code != 0
    assert kept(tmp_path) == ["t1"]


async def test_a_session_is_not_called_gone_while_some_of_it_is_in_the_spool(tmp_path: Path) -> None:
    await talk(tmp_path)
    (tmp_path / "spool" / "00000009.log").write_bytes(b"what a killed gateway left")
    with pytest.raises(JournalError, match="start it, stop it, and try again"):
        retention.prune_session_stopped(tmp_path / "turns.db", tmp_path / "learning.db", "main", "s")
    assert len(kept(tmp_path)) == 8


async def test_without_a_limit_nothing_is_given_up(tmp_path: Path) -> None:
    await talk(tmp_path)
    assert prune(tmp_path, 1e12) == 0
    assert len(kept(tmp_path)) == 8


async def test_what_an_update_may_still_need_stays(tmp_path: Path) -> None:
    await talk(tmp_path)
    sample = Sample(turn="t1", exchange="e1", agent="main", version=0, reward=1.0, sampled_at=0.0)
    with LearningJournal.open(tmp_path / "learning.db") as learning:
        learning.record_verdict(exchange="e1", agent="main", judge="j", score=1.0, detail={}, samples=[sample])
    # `other` was drawn by the policy and is younger than what is still judged.
    assert prune(tmp_path, 6 * DAY_S, max_age_days=0.001) == 5
    assert kept(tmp_path) == ["t1", "other", "open"]
    assert prune(tmp_path, 100 * DAY_S, max_age_days=1) == 1
    assert kept(tmp_path) == ["t1", "open"]


async def test_the_oldest_go_until_the_journal_holds_less(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        for number in range(60):
            await journal.open_turn(new_turn(f"t{number}", user(f"{number}" * 20_000), opened_at=float(number)))
            await journal.close_turn(f"t{number}", done())
    assert prune(tmp_path, 0.0, max_size_mb=1.5) > 0
    assert "t0" not in kept(tmp_path)
    assert "t59" in kept(tmp_path)
    assert (tmp_path / "turns.db").stat().st_size < 2_000_000


async def test_what_was_given_up_is_told_where_the_file_cannot_be_shrunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To shrink it takes as much room again, which is what whoever prunes a full disk lacks."""
    await talk(tmp_path)

    def without_room(path: Path, schema: str) -> sqlite3.Connection:
        connection = open_writer(path, schema)
        connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK
        )
        return connection

    with monkeypatch.context() as disk:
        disk.setattr(retention, "open_writer", without_room)
        with pytest.raises(JournalError, match=r"4 turns were given up, but the file could not be shrunk"):
            prune(tmp_path, 20 * DAY_S, max_age_days=17.5)
    assert "t0" not in kept(tmp_path)
    assert prune(tmp_path, 20 * DAY_S, max_age_days=17.5) == 0  # nobody is in the way


async def test_no_more_go_than_the_limit_needs_however_large_they_are(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        for number in range(20):
            turn = new_turn(f"t{number}", user(f"{number} " + "x" * 100_000), exchange=f"e{number}", opened_at=1.0)
            await journal.open_turn(turn)
            await journal.close_turn(turn.id, done(closed_at=2.0))
    num_pruned = prune(tmp_path, 10 * DAY_S, max_size_mb=1.5)
    left = kept(tmp_path)
    assert left == [f"t{number}" for number in range(num_pruned, 20)]
    assert 12 <= len(left) <= 14
    assert verify(tmp_path / "turns.db").problems == ()


async def test_a_running_gateway_prunes_beside_its_turns_and_nobody_else_does(tmp_path: Path) -> None:
    await talk(tmp_path)
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with pytest.raises(JournalError, match="another MetaClaw gateway"):
            prune(tmp_path, 0.0, max_age_days=1)
        assert await journal.prune(Retention(max_age_days=1), frozenset(), 100 * DAY_S) == 8
        assert kept(tmp_path) == []


async def test_what_is_damaged_is_found(tmp_path: Path) -> None:
    await talk(tmp_path)
    with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as db:
        db.execute("UPDATE messages SET body = '{}'")
        db.execute("DELETE FROM turns WHERE id = 't5'")
    problems = " ".join(verify(tmp_path / "turns.db").problems)
    assert "messages that are not what their hash says" in problems
    assert "histories that no turn has" in problems


async def test_the_commands_export_count_and_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METACLAW_HOME", str(tmp_path))
    await talk(tmp_path, 2)
    run = CliRunner().invoke
    lines = [json.loads(line) for line in run(app, ["journal", "export", "--tokens"]).stdout.splitlines()]
    assert [line["id"] for line in lines] == ["t0", "t1", "other", "open"]
    assert lines[1]["messages"] == [user("question 0"), SAID, user("question 1")]
    assert lines[1]["answer"] == SAID
    assert (lines[2]["sample"]["version"], lines[2]["sample"]["tokens"]) == (1, "AgAAAA==")
    assert json.loads(run(app, ["journal", "export", "--json", "--session", "nobody"]).stdout) == []
    assert json.loads(run(app, ["journal", "export", "--json", "--tokens"]).stdout) == lines
    [stats] = json.loads(run(app, ["journal", "stats", "--json"]).stdout)
    assert (stats["agent"], stats["turns"]) == ("main", 4)
    checked = run(app, ["journal", "verify", "--json"])
    assert (checked.exit_code, json.loads(checked.stdout)["ok"]) == (0, True)
    for nothing in ([], ["--max-age-days", "0"], ["--max-size-mb", "inf"]):
        assert run(app, ["journal", "prune", *nothing]).exit_code != 0
    assert json.loads(run(app, ["journal", "prune", "--max-age-days", "1", "--json"]).stdout) == {"pruned": 3}


async def test_an_export_holds_what_was_thought_of_turns_and_of_sessions_each_once(tmp_path: Path) -> None:
    await talk(tmp_path, 3)
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with TurnReader.open(tmp_path / "turns.db") as reader:
            said = [(turn.id, turn.session, turn.agent) for turn in reader.turns()]
        given = {"only_agent": None, "score": 1.0, "text": "", "source": "user"}
        _, session, agent = said[0]
        await journal.add_feedback(NewFeedback(turn="t0", session=None, agent=agent, created_at=9 * DAY_S, **given))
        for at in (1.5 * DAY_S, -5.0):  # when all was said; by a clock that was wrong
            await journal.add_feedback(NewFeedback(turn=None, session=session, agent=agent, created_at=at, **given))
    with TurnReader.open(tmp_path / "turns.db") as reader:
        lines = list(export_turns(reader, generation=lambda *_: 0))
    told = {line["id"]: [one["id"] for one in line["feedback"]] for line in lines if line["feedback"]}
    assert sorted(number for numbers in told.values() for number in numbers) == [1, 2, 3]
    assert (told["t0"], 2 in told["open"]) == ([1], True)


async def test_a_turn_that_is_given_up_while_it_is_exported_is_left_out_and_not_half_there(tmp_path: Path) -> None:
    await talk(tmp_path)
    with TurnReader.open(tmp_path / "turns.db") as reader:
        lines = export_turns(reader, generation=lambda *_: 0)
        first = next(lines)
        prune(tmp_path, 20 * DAY_S, max_age_days=17.5)
        rest = list(lines)
    assert first["id"] == "t0"
    assert [line["id"] for line in rest] == kept(tmp_path)
    assert all(line["messages"] for line in rest)


async def test_an_export_of_a_damaged_journal_says_so(tmp_path: Path) -> None:
    await talk(tmp_path)
    file = tmp_path / "turns.db"
    with closing(sqlite3.connect(file)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'turns'").fetchone()
    content = bytearray(file.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    file.write_bytes(content)
    with TurnReader.open(file) as reader, pytest.raises(JournalError, match="malformed"):
        list(export_turns(reader, generation=lambda *_: 0))


async def test_records_that_wait_in_the_spool_are_counted_and_no_problem(tmp_path: Path) -> None:
    async with TurnJournal(tmp_path / "turns.db") as journal:
        with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            journal.append(opening("t1"))
            assert verify(tmp_path / "turns.db").spool_records == 1
            assert verify(tmp_path / "turns.db").problems == ()
            other.execute("COMMIT")
