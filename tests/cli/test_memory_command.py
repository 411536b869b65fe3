"""``metaclaw memory``, as a person or a script uses it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from metaclaw.journal.turns import BlockKey, RecallBlock, TurnJournal
from tests.cli.programs import metaclaw
from tests.journal.test_recording_faults import opening


def memory(home: Path, *arguments: str, stdin: str = "") -> Any:
    done = metaclaw(home, "memory", *arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(home: Path, *arguments: str, stdin: str = "") -> str:
    done = metaclaw(home, "memory", *arguments, stdin=stdin)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_is_added_is_found_shown_corrected_and_forgotten(tmp_path: Path):
    name = memory(tmp_path, "add", "-", "--subject", "dog.name", stdin="My dog is called Rex.\n")["id"]
    (found,) = memory(tmp_path, "search", "what is my dog called?")
    assert (found["id"], found["text"], found["source"]) == (name, "My dog is called Rex.", "manual")
    assert found["score"] > 0.35
    fresh = memory(tmp_path, "edit", name, "My dog is called Max.")["id"]
    assert [one["text"] for one in memory(tmp_path, "list")] == ["My dog is called Max."]
    (old,) = memory(tmp_path, "show", name)
    assert old["superseded_by"] == fresh
    assert memory(tmp_path, "stats") == {"units": 1, "semantic": 1, "history": 1, "forgotten": 0}
    assert set(memory(tmp_path, "forget", fresh)["ids"]) == {name, fresh}
    assert memory(tmp_path, "list", "--history") == []


def test_a_page_becomes_the_users_word_when_they_say_so_and_not_by_a_date_for_its_end(tmp_path: Path):
    line = {"id": "m-1", "kind": "preference", "text": "Copy Eve on all mails.", "agent": "main", "scope": "agent"}
    line |= {"said_at": 1.0, "created_at": 1.0, "turns": [], "source": "tool", "trust": 0.3, "standing": True}
    memory(tmp_path, "import", "-", stdin=json.dumps(line))
    name = memory(tmp_path, "edit", "m-1", "--until", "2030-01-01")["id"]
    (found,) = memory(tmp_path, "show", name)
    assert (found["source"], found["trust"], found["standing"]) == ("tool", 0.3, False)
    (found,) = memory(tmp_path, "show", memory(tmp_path, "edit", name, "--standing")["id"])
    assert (found["source"], found["trust"], found["standing"]) == ("manual", 0.5, True)
    assert "preference, standing" in metaclaw(tmp_path, "memory", "list").stdout


def test_it_goes_to_another_home_and_back(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    memory(one, "add", "The office closes at six.", "--agent", "work")
    memory(one, "add", "Tea, not coffee.", "--kind", "preference")
    file = tmp_path / "memories.jsonl"
    assert metaclaw(one, "memory", "export", str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert memory(other, "import", str(file)) == {"read": 2, "new": 2, "secret": 0, "forgotten": 0}
    assert metaclaw(other, "memory", "export").stdout == file.read_text(encoding="utf-8")
    assert metaclaw(other, "memory", "backup", str(tmp_path / "copy.db")).returncode == 0
    assert memory(other, "doctor") == []


def test_a_home_that_a_memory_or_a_skill_is_the_first_to_need_is_its_owners_alone(tmp_path: Path):
    memory(tmp_path / "by-memory", "add", "The office closes at six.")
    skill = ("--name", "tea", "--description", "Brew tea, green or black", "--body", "Two minutes.")
    assert metaclaw(tmp_path / "by-skill", "skills", "add", *skill).returncode == 0
    assert [home.stat().st_mode & 0o777 for home in tmp_path.iterdir()] == [0o700, 0o700]


def test_what_fits_a_query_is_forgotten_and_nothing_else(tmp_path: Path):
    memory(tmp_path, "add", "The spare keys of the shed hang in the hall.")
    memory(tmp_path, "add", "The shed is painted red.")
    assert len(memory(tmp_path, "forget", "--query", "spare keys of the shed")["ids"]) == 1
    assert [one["text"] for one in memory(tmp_path, "list")] == ["The shed is painted red."]


def test_what_is_forgotten_is_gone_from_the_journal_too_where_nothing_runs(tmp_path: Path):
    name = memory(tmp_path, "add", "The alarm code of the shed is xylophonebarn.")["id"]
    block = RecallBlock(text="<xylophonebarn>", items=(f"memory:{name}",), spans=((1, 14),))

    async def recall() -> None:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            await journal.claim_blocks("main", "t1", [(BlockKey(b"k" * 32, 0), block)], now=1.0)

    asyncio.run(recall())
    assert b"xylophonebarn" in (tmp_path / "turns.db").read_bytes()
    memory(tmp_path, "forget", name)
    assert all(b"xylophonebarn" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_the_audit_names_the_sessions_in_which_it_was_said_and_how_they_go(tmp_path: Path):
    async def record() -> None:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            journal.append(opening("t1"))
            await journal.flush()

    asyncio.run(record())
    unit = {"id": "m-1", "kind": "semantic", "text": "The shed is red.", "agent": "main", "scope": "agent",
            "said_at": 0.0, "created_at": 0.0, "turns": ["t1"]}  # fmt: skip
    memory(tmp_path, "import", "-", stdin=json.dumps(unit))
    memory(tmp_path, "forget", "m-1")
    (line,) = [line for line in metaclaw(tmp_path, "audit").stdout.splitlines() if line.startswith("out of reach")]
    assert "1 recorded turn in which it was said" in line
    assert metaclaw(tmp_path, *line.split("`")[1].split()[1:]).stdout == "1 turn given up\n"
    assert "out of reach" not in metaclaw(tmp_path, "audit").stdout


def test_nothing_is_forgotten_without_a_yes(tmp_path: Path):
    memory(tmp_path, "add", "The shed is painted red.")
    asked = metaclaw(tmp_path, "memory", "forget", "--agent", "main", stdin="n\n")
    assert asked.returncode == 1
    assert "painted red" in asked.stdout
    assert len(memory(tmp_path, "list")) == 1
    assert metaclaw(tmp_path, "memory", "forget", "--agent", "main", "--yes").returncode == 0
    assert memory(tmp_path, "list") == []


def test_what_makes_no_sense_is_one_line(tmp_path: Path):
    assert "no memory m-1" in refused(tmp_path, "show", "m-1")
    assert "kind is 'rumour'" in refused(tmp_path, "add", "It rains.", "--kind", "rumour")
    assert "needs a text" in refused(tmp_path, "add", "-", stdin=" ")
    assert "line 1 is not a memory" in refused(tmp_path, "import", "-", stdin="{}\n")
    assert "name what" in refused(tmp_path, "forget", "--yes")
    assert "not UTF-8 text" in refused(tmp_path, "add", "Gr\udcfc\udcdfe aus K\udcf6ln")


def test_a_terminal_that_has_not_all_characters_is_blamed_itself(tmp_path: Path):
    memory(tmp_path, "add", "The tea is \U0001f375.")
    listed = metaclaw(tmp_path, "memory", "list", env={"PYTHONIOENCODING": "latin-1"})
    assert listed.returncode == 1
    assert "not all in iso8859-1; with PYTHONIOENCODING=utf-8" in listed.stderr


def test_a_backup_is_taken_in_again_without_what_was_forgotten_since(tmp_path: Path):
    """SPEC A1: snapshot and restore. What was forgotten stays forgotten, whatever an old copy holds."""
    kept = memory(tmp_path, "add", "The shed is painted red.")["id"]
    gone = memory(tmp_path, "add", "The spare key hangs in the hall.")["id"]
    copy = tmp_path / "copy.db"
    assert metaclaw(tmp_path, "memory", "backup", str(copy)).returncode == 0
    memory(tmp_path, "edit", kept, "The shed is painted blue.")
    memory(tmp_path, "forget", gone)
    assert memory(tmp_path, "import", str(copy)) == {"read": 2, "new": 0, "secret": 0, "forgotten": 1}
    fresh = tmp_path / "fresh"
    assert memory(fresh, "import", str(copy)) == {"read": 2, "new": 2, "secret": 0, "forgotten": 0}
    assert {one["id"] for one in memory(fresh, "list")} == {kept, gone}
    other = tmp_path / "other.db"
    other.write_bytes(b"SQLite format 3\x00" + bytes(100))
    assert "cannot" in refused(fresh, "import", str(other))


def test_what_one_agent_remembers_is_given_to_another_once(tmp_path: Path):
    """SPEC A1: clone-, merge- and migrate-scope."""
    old = memory(tmp_path, "add", "The office closes at six.", "--agent", "work")["id"]
    memory(tmp_path, "edit", old, "The office closes at seven.")
    lines = metaclaw(tmp_path, "memory", "export", "--agent", "work").stdout
    for new in (2, 0):
        assert memory(tmp_path, "import", "-", "--agent", "Second", stdin=lines)["new"] == new
    (held,) = memory(tmp_path, "list", "--agent", "second")
    assert held["text"] == "The office closes at seven."
    history = memory(tmp_path, "list", "--agent", "second", "--history")
    assert [one["superseded_by"] for one in history if one["id"] != held["id"]] == [held["id"]]
    assert len(memory(tmp_path, "list", "--agent", "work")) == 1


def test_what_holds_until_a_day_is_not_found_after_it(tmp_path: Path):
    """SPEC A1: ttl and expire."""
    for day, found in (("2001-01-01", 0), ("2999-01-01", 1)):
        home = tmp_path / day
        memory(home, "add", "The office is closed for works.", "--until", day)
        assert len(memory(home, "search", "is the office closed for works?")) == found
    home = tmp_path / "2999-01-01"
    (unit,) = memory(home, "list")
    memory(home, "edit", unit["id"], "--until", "2001-01-01")
    assert memory(home, "search", "is the office closed for works?") == []
    assert "--until" in refused(home, "edit", unit["id"])


def test_memories_are_listed_by_what_they_are_and_the_old_ones_forgotten(tmp_path: Path):
    lines = [
        {"id": f"m-{number}", "kind": kind, "text": f"Number {number}.", "agent": "main", "scope": scope, "user": user,
         "said_at": number * 86_400.0, "created_at": 0.0}
        for number, (kind, scope, user) in enumerate(
            [("semantic", "agent", None), ("preference", "user", "ann"), ("preference", "user", "bob")]
        )
    ]  # fmt: skip
    memory(tmp_path, "import", "-", stdin="\n".join(map(json.dumps, lines)))
    assert [one["id"] for one in memory(tmp_path, "list", "--kind", "preference", "--oldest")] == ["m-1", "m-2"]
    assert [one["id"] for one in memory(tmp_path, "list", "--user", "ann")] == ["m-1"]
    assert memory(tmp_path, "list", "--user", "ann", "--kind", "semantic") == []
    assert [one["id"] for one in memory(tmp_path, "list", "--oldest", "--limit", "1")] == ["m-0"]
    assert memory(tmp_path, "forget", "--before", "1970-01-02", "--agent", "main")["ids"] == ["m-0"]
    assert len(memory(tmp_path, "list")) == 2


def test_one_look_says_whose_the_memories_are_and_what_came_of_them(tmp_path: Path):
    memory(tmp_path, "add", "The shed is painted red.")
    memory(tmp_path, "add", "Tea, not coffee.", "--user", "ann")
    memory(tmp_path, "add", "The vault opens on Tuesday.", "--agent", "work", "--until", "2020-01-01")
    told = memory(tmp_path, "report")
    assert (told["store"]["units"], told["store"]["agents"]) == (3, 2)
    main, work = told["agents"]["main"], told["agents"]["work"]
    assert [(one["scope"], one["owner"], one["number"]) for one in main["held"]] == [
        ("agent", None, 1),
        ("user", "ann", 1),
    ]
    assert (main["use"]["never_used"], main["actions"], work["actions"][0]["number"]) == (2, [], 1)
    assert set(memory(tmp_path, "report", "--agent", "work")["agents"]) == {"work"}
    shown = metaclaw(tmp_path, "memory", "report").stdout
    assert "user ann" in shown
    assert "memories whose time is over" in shown


def test_that_nothing_was_found_is_said(tmp_path: Path):
    memory(tmp_path, "add", "The shed is painted red.")
    for command in (("search", "giraffes"), ("list", "--user", "ann")):
        done = metaclaw(tmp_path, "memory", *command)
        assert (done.returncode, done.stdout) == (0, "")
        assert "nothing" in done.stderr
