"""``metaclaw agents`` and ``metaclaw skills share``, as a person or a script uses them."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metaclaw.cli import agent_places
from metaclaw.cli.main import app
from metaclaw.config_file import load_settings
from metaclaw.errors import ConflictError, InvalidRequestError, MetaClawError, NotFoundError, ProcessError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import TurnJournal
from metaclaw.memory.doctor import examine
from metaclaw.memory.store import MemoryStore
from metaclaw.processes.instance import held_pid_file
from tests.isolation import test_learning, world
from tests.isolation.canaries import AGENTS, canary, whose_are_in
from tests.learner.recording import Said, policy_sample, record
from tests.memory.units import asked

ONE, OTHER = AGENTS[:2]


def agents(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["agents", *arguments, "--json"])
    if isinstance(done.exception, MetaClawError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two agents with one of everything, and what is everybody's."""
    home = tmp_path / "home"
    monkeypatch.setenv("METACLAW_HOME", str(home))
    world.plant(home, (ONE, OTHER))
    path = home / "learning.db"
    with (
        LearningJournal.open(path) as journal,
        SkillTrials.open(path) as trials,
        closing(PolicyHolds.open(path)) as held,
    ):
        for place, agent in enumerate((ONE, OTHER)):
            test_learning.plant(journal, held, trials, place, agent)
    (home / "config.yaml").write_text("# mine\nmode: skills_only\n")

    async def turns() -> None:
        async with TurnJournal(home / "turns.db") as journal:
            for agent in (ONE, OTHER):
                drawn = policy_sample(agent=agent)
                await record(
                    journal, Said(turn=f"t-{agent}", exchange=agent, agent=agent, answer=canary(agent), sample=drawn)
                )

    asyncio.run(turns())
    return home


def words_in(home: Path) -> set[str]:
    """Whose canaries are in any row of any database, or in any other file."""
    found: set[str] = set()
    for path in home.rglob("*"):
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as connection:
                found |= whose_are_in("\n".join(connection.iterdump()))
        elif path.is_file():
            found |= whose_are_in(path.read_bytes())
    return found


def test_all_that_there_is_of_an_agent_is_listed_and_shown(home: Path):
    listed = {one["agent"]: one for one in agents("list")}
    assert set(listed) == {ONE, OTHER}
    assert {name: listed[ONE][name] for name in ("turns", "memories", "skills", "versions", "tokens")} == {
        "turns": 1, "memories": 3, "skills": 1, "versions": 1, "tokens": 1,
    }  # fmt: skip
    assert agents("show", ONE)["skill_names"] == ["harbour-report"]
    with pytest.raises(NotFoundError, match="agents list"):
        agents("show", "nobody")
    assert agents("add", "fresh")["next"] == "metaclaw tokens create fresh --agent fresh"
    assert "fresh" in {one["agent"] for one in agents("list")}
    with pytest.raises(ConflictError):
        agents("add", "fresh")


def test_a_renamed_agent_has_all_that_it_had_and_the_old_one_nothing(home: Path):
    before = agents("show", ONE)
    with pytest.raises(ConflictError, match="already"):
        agents("rename", ONE, OTHER)
    agents("rename", ONE, "harbour")
    after = agents("show", "harbour")
    assert {**after, "agent": ONE} == before
    assert {one["agent"] for one in agents("list")} == {"harbour", OTHER}
    with MemoryStore.open(home / "memory" / "units.db") as store:
        assert examine(store) == []
        for agent, owner in (("harbour", ONE), (OTHER, OTHER)):
            found = store.search(asked("What is the mascot of the harbour team?", agent=agent))
            assert whose_are_in(found) == {owner}


def test_a_rename_that_is_cut_off_at_any_step_is_ended_by_whoever_comes_next(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = {**agents("show", ONE), "agent": "harbour"}
    settings = load_settings()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("rename_memory", "rename_rows", "rename_owner", "move_agent_group"):
        with monkeypatch.context() as patched:
            patched.setattr(agent_places, step, dies)
            if not (home / "agents-rename.json").exists():
                with pytest.raises(KeyboardInterrupt), agent_places.alone(settings):
                    agent_places.rename(settings, ONE, "harbour")
            else:
                with pytest.raises(KeyboardInterrupt):
                    agent_places.end_begun_rename(settings)
    agent_places.end_begun_rename(settings)
    assert agents("show", "harbour") == expected
    assert not (home / "agents-rename.json").exists()


def test_a_removed_agent_leaves_no_word_and_the_other_all(home: Path):
    other = agents("show", OTHER)
    assert words_in(home) == {ONE, OTHER}
    agents("remove", ONE, "--yes")
    assert words_in(home) == {OTHER}
    assert agents("show", OTHER) == other
    with closing(sqlite3.connect(home / "turns.db")) as turns:
        assert turns.execute("PRAGMA foreign_key_check").fetchall() == []
    with closing(sqlite3.connect(home / "learning.db")) as learning:
        assert learning.execute("PRAGMA foreign_key_check").fetchall() == []


def test_nothing_is_changed_while_metaclaw_runs(home: Path):
    with held_pid_file(home):
        for command in (["rename", ONE, "x"], ["remove", ONE, "--yes"], ["import", "x.tar.gz"]):
            with pytest.raises(ProcessError, match="metaclaw stop"):
                agents(*command)
        assert len(agents("list")) == 2


def test_an_exported_agent_is_taken_in_elsewhere_and_beside_itself(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "one.tar.gz"
    told = agents("export", ONE, str(file), "--no-adapter")
    assert "adapter" in told["left_out"][0]
    assert file.stat().st_mode & 0o077 == 0
    assert whose_are_in(gzip.decompress(file.read_bytes())) == {ONE}
    with pytest.raises(ConflictError, match="--as"):
        agents("import", str(file))
    beside = agents("import", str(file), "--as", "second")
    assert (beside["skills"], beside["memories"]) == (1, 3)
    monkeypatch.setenv("METACLAW_HOME", str(tmp_path / "elsewhere"))
    assert agents("import", str(file))["agent"] == ONE
    with MemoryStore.open(tmp_path / "elsewhere" / "memory" / "units.db") as store:
        assert whose_are_in(store.search(asked("What is the mascot of the harbour team?", agent=ONE))) == {ONE}
    assert agents("show", ONE)["skill_names"] == ["harbour-report"]


def rebuilt(file: Path, target: Path, change: Any) -> Path:
    """The archive with ``change(name, content)`` applied to each of its files."""
    with tarfile.open(file) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            content = old.extractfile(member)
            name, data = change(member.name, content.read() if content else b"")
            fresh = tarfile.TarInfo(name)
            fresh.size = len(data)
            new.addfile(fresh, io.BytesIO(data))
    return target


def test_an_agent_that_has_nothing_but_its_name_is_there_after_its_import(home: Path, tmp_path: Path):
    agents("add", "bare")
    agents("export", "bare", str(tmp_path / "bare.tar.gz"))
    agents("import", str(tmp_path / "bare.tar.gz"), "--as", "bare-too")
    assert {"bare", "bare-too"} <= {one["agent"] for one in agents("list")}
    with pytest.raises(ConflictError, match="already"):
        agents("import", str(tmp_path / "bare.tar.gz"), "--as", "bare-too")


def test_an_adapter_that_waits_is_its_agents_through_a_rename_and_goes_with_it(home: Path):
    waiting = home / "adapters"
    (waiting / "late").mkdir(parents=True)
    assert agents("show", "late")["has_waiting_adapter"]
    agents("rename", "late", "later")
    assert [path.name for path in waiting.iterdir()] == ["later"]
    agents("remove", "later", "--yes")
    assert list(waiting.iterdir()) == []


def test_an_archive_that_was_tampered_with_is_refused_as_a_whole(home: Path, tmp_path: Path):
    file = tmp_path / "one.tar.gz"
    agents("export", ONE, str(file), "--no-adapter")
    before = agents("list")
    tricks = {
        "bytes": lambda name, data: (name, data.replace(b"Sign it", b"Burn it")),
        "a place": lambda name, data: (name.replace("skills/", "../skills/"), data),
        "a place in the manifest": lambda name, data: (
            name.replace("skills/harbour", "skills/../../x"),
            data.replace(b"skills/harbour", b"skills/../../x"),
        ),
        "no manifest": lambda name, data: (name.replace("manifest", "mani"), data),
        "a size": lambda name, data: (name, data + b" " if name == "memories.jsonl" else data),
    }  # fmt: skip
    for what, change in tricks.items():
        bad = rebuilt(file, tmp_path / f"{what}.tar.gz", change)
        with pytest.raises(InvalidRequestError):
            agents("import", str(bad), "--as", "second")
    (tmp_path / "cut.tar.gz").write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InvalidRequestError):
        agents("import", str(tmp_path / "cut.tar.gz"), "--as", "second")
    assert agents("list") == before


def test_a_shared_skill_is_everybodys_and_its_agents_own_stays(home: Path):
    done = CliRunner().invoke(app, ["skills", "share", "harbour-report", "--agent", ONE, "--json"])
    assert done.exit_code == 0, done.output
    shared = home / "skills" / "_shared" / "harbour-report" / "SKILL.md"
    assert whose_are_in(shared.read_text()) == {ONE}
    assert agents("show", ONE)["skill_names"] == ["harbour-report"]
    again = CliRunner().invoke(app, ["skills", "share", "harbour-report", "--agent", OTHER])
    assert "everybody has another" in str(again.exception)
