"""``metaclaw memory``, as a person or a script uses it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from metaclaw.journal.turns import BlockKey, RecallBlock, TurnJournal
from tests.cli.programs import metaclaw


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
