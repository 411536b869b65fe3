"""``metaclaw import metaclaw``: what the reference system or its fork left comes here, and theirs stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metaclaw.cli.main import app
from metaclaw.config_file import load_settings
from metaclaw.errors import JournalError, MetaClawError, NotFoundError
from metaclaw.memory.doctor import examine
from metaclaw.memory.forgetting import forget
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit
from metaclaw.skills.skill import read_skill
from tests.fakes.older_home import fingerprint, lay_out, skill


def bring(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["import", "metaclaw", *arguments, "--json"])
    if isinstance(done.exception, MetaClawError):
        raise done.exception
    assert done.exit_code == 0, done.output
    assert "sk-of-" not in done.output
    return json.loads(done.stdout)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("METACLAW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "theirs" / ".metaclaw")


def remembered(home: Path) -> dict[str, MemoryUnit]:
    with MemoryStore.open(home / "memory" / "units.db") as store:
        assert examine(store) == []
        return {unit.text: unit for unit in store.latest(limit=-1, with_history=True)}


def test_without_yes_it_says_what_it_would_do_and_does_nothing(home: Path, theirs: Path):
    before = fingerprint(theirs)
    said = bring(str(theirs))
    assert not said["applied"]
    assert not home.exists()
    done = bring(str(theirs), "--yes")
    assert {**said, "applied": True} == done
    assert fingerprint(theirs) == before


def test_all_of_theirs_comes_here_and_the_second_time_nothing(home: Path, theirs: Path):
    before = fingerprint(theirs)
    first = bring(str(theirs), "--yes")
    taken = fingerprint(home / "skills"), (home / "config.yaml").read_bytes(), remembered(home)
    again = bring(str(theirs), "--yes")
    assert (fingerprint(home / "skills"), (home / "config.yaml").read_bytes(), remembered(home)) == taken
    assert fingerprint(theirs) == before
    assert (first["memories"]["new"], again["memories"]["new"]) == (len(taken[2]), 0)
    assert {one["state"] for one in again["skills"]} == {"unchanged", "copy", "refused"}
    assert again["settings"] == {}


def test_settings_are_taken_under_todays_names_and_none_leads_into_their_home(home: Path, theirs: Path):
    home.mkdir()
    (home / "config.yaml").write_text("skills: {top_k: 3}\n")
    with (theirs / "config.yaml").open("a") as file:
        file.write("imagined: {by: nobody}\n")
    said = bring(str(theirs), "--yes")
    settings = load_settings()
    assert (settings.agent_program, settings.llm.model_id, settings.max_context_tokens) == (
        "qwenpaw",
        "kimi-k2.5",
        50000,
    )
    assert settings.llm.api_key.get_secret_value() == "sk-of-theirs-123456"
    assert (settings.rl.lora_rank, settings.recall.max_memories) == (16, 9)
    assert (settings.scheduler.sleep_start, settings.proxy.host) == ("22:00", "127.0.0.1")
    assert settings.agents.of("assistant").mode == "skills_only"
    assert settings.skills.top_k == 3
    assert "/home/somebody" not in (home / "config.yaml").read_text()
    notes = "\n".join(said["settings_notes"])
    for told in (
        "imagined.by",
        "rl.remote_model_path",
        "skills.top_k is set here",
        "lower case",
        "memory.auto_extract",
        "0.0.0.0",
    ):
        assert told in notes
    assert said["settings"]["llm.api_key"] == "***"


def test_modes_that_cannot_be_here_are_told_and_the_rest_is_taken(home: Path, theirs: Path):
    text = (theirs / "config.yaml").read_text()
    (theirs / "config.yaml").write_text(text.replace("mode: skills_only\nproxy", "mode: madmax\nproxy") + "# \n")
    said = bring(str(theirs), "--yes")
    assert load_settings().llm.model_id == "kimi-k2.5"
    assert load_settings().mode == said["settings"].get("mode", "skills_only")
    assert any(note.startswith("mode") for note in said["settings_notes"])
    (theirs / "config.yaml").write_text(
        "scheduler: {sleep_start: never}\nllm: {model_id: other}\nproxy: {port: 31000}\n"
    )
    notes = bring(str(theirs), "--yes")["settings_notes"]
    assert any("sleep_start" in note for note in notes)
    assert load_settings().proxy.port == 31000


def test_skills_are_made_as_the_standard_wants_them_for_whom_they_were(home: Path, theirs: Path):
    said = {one["where"]: one for one in bring(str(theirs), "--yes")["skills"]}
    states = {where: one["state"] for where, one in said.items()}
    assert states == {
        "debug-systematically": "new", "dyn-001": "new", "_shared/house-style": "new", "read-papers": "new",
        "research-agent/Cite Sources!": "new", "Assistant/be-brief": "new", "research-agent/house-style": "copy",
        "no-front-matter": "refused", "no-description": "refused", "Twice": "refused", "bad agent/lost": "refused",
    }  # fmt: skip
    assert all(one["notes"] for one in said.values() if one["state"] == "refused")
    assert said["dyn-001"]["was_evolved"]
    assert "cite-sources" in said["research-agent/Cite Sources!"]["notes"][0]
    found = read_skill(home / "skills" / "_shared" / "debug-systematically", strict=True)
    assert (found.description, found.category) == ("Use when: a test fails", "coding")
    assert read_skill(home / "skills" / "research-agent" / "cite-sources", strict=True).category == "research"
    for place in ("research-agent/read-papers", "assistant/be-brief", "_shared/dyn-001"):
        assert read_skill(home / "skills" / place, strict=True)
    assert (home / "skills" / "_shared" / "dyn-001" / "scripts" / "run.sh").read_text() == "#!/bin/sh\n"


def test_a_skill_that_is_here_already_is_not_replaced(home: Path, theirs: Path):
    mine = home / "skills" / "_shared" / "dyn-001" / "SKILL.md"
    mine.parent.mkdir(parents=True)
    mine.write_text(skill("dyn-001", "Mine"))
    said = {one["where"]: one for one in bring(str(theirs), "--yes")["skills"]}
    assert said["dyn-001"]["state"] == "refused"
    assert mine.read_text() == skill("dyn-001", "Mine")
    assert not (mine.parent / "scripts").exists()


def test_memories_keep_kind_time_and_owner_and_say_that_they_were_imported(home: Path, theirs: Path):
    said = bring(str(theirs), "--yes")["memories"]
    units = remembered(home)
    assert {(unit.source, unit.session) for unit in units.values()} == {("import", "s-1"), ("import", "s-7")}
    shown = {text: (unit.agent, unit.scope, unit.kind) for text, unit in units.items()}
    assert shown == {
        "User preference: tabs over spaces.": ("main", "agent", "preference"),
        "The office is in Vienna.": ("main", "agent", "semantic"),
        "The office is in Graz.": ("main", "agent", "semantic"),
        "The office is in Linz.": ("main", "agent", "semantic"),
        "The release is on Friday.": ("main", "user", "project_state"),
        "Workflow guidance: deploy by hand.": ("main", "workspace", "procedural"),
        "Topics: release, notes": ("main", "session", "working_summary"),
        "The paper was submitted in March.": ("research-agent", "agent", "episodic"),
    }
    vienna, graz, linz = (units[f"The office is in {city}."] for city in ("Vienna", "Graz", "Linz"))
    assert (linz.superseded_by, graz.superseded_by, vienna.superseded_by) == (graz.id, vienna.id, None)
    assert (graz.said_at, vienna.said_at) == (1772352000.0, 1775122200.0)
    assert vienna.true_until == 7226582400.0
    assert said["left_out"] == {
        "secret": 1, "too long": 1, "archived": 1, "expired": 1, "unreadable": 1, "no successor": 1,
    }  # fmt: skip
    assert (said["found"], said["known"], said["beside"]) == (15, 1, {"memory_links": 1})
    assert b"sk-proj" not in b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_what_was_forgotten_here_is_not_taken_again(home: Path, theirs: Path):
    bring(str(theirs), "--yes")
    with MemoryStore.open(home / "memory" / "units.db") as store:
        chosen = remembered(home)["The paper was submitted in March."].id
        forget(store, [chosen], why="asked", now=1.0)
    said = bring(str(theirs), "--yes")["memories"]
    assert (said["new"], said["forgotten"]) == (0, 1)
    assert "The paper was submitted in March." not in remembered(home)


def test_where_both_use_one_home_memories_come_in_and_files_of_theirs_stay(
    monkeypatch: pytest.MonkeyPatch, theirs: Path
):
    monkeypatch.setenv("METACLAW_HOME", str(theirs))
    text = (theirs / "config.yaml").read_text().replace("Assistant", "assistant")
    (theirs / "config.yaml").write_text(text.replace("/home/somebody/.metaclaw", str(theirs)))
    before = fingerprint(theirs)
    said = bring(str(theirs), "--yes", "--agent", "helper")
    after = fingerprint(theirs)
    assert said["is_own_home"]
    assert {name: after.get(name) for name in before} == before
    assert remembered(theirs)["The office is in Vienna."].agent == "helper"
    assert (theirs / "research-skills" / "cite-sources" / "SKILL.md").exists()


def test_what_is_no_such_home_or_is_broken_is_told_and_changes_nothing(home: Path, theirs: Path, tmp_path: Path):
    with pytest.raises(NotFoundError, match=r"config\.yaml"):
        bring(str(tmp_path), "--yes")
    for content in (b"no database at all, only words" * 100, b""):
        (theirs / "memory" / "memory.db").write_bytes(content)
        (theirs / "memory" / "memory.db-wal").unlink(missing_ok=True)
        before = fingerprint(theirs)
        with pytest.raises(JournalError, match=r"memory\.db"):
            bring(str(theirs), "--yes")
        assert fingerprint(theirs) == before
    assert not home.exists()
