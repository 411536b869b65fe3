"""What was forgotten is gone, whoever looks and wherever."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from metaclaw.cli.main import app
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.skill_records import Evolution, NewCandidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import BlockKey, RecallBlock, TurnJournal, Weighed
from metaclaw.memory.store import Extraction, MemoryStore
from tests.journal.test_turns import done, new_turn, user
from tests.learner.test_learning_journal import commit, judge
from tests.memory.units import NOW, unit

pytestmark = pytest.mark.anyio

FORGOTTEN = {
    "unit": (),  # its id
    "query": ("--query", "canaryquery"),
    "session": ("--session", "s-session"),
    "agent": ("--agent", "shadow"),
    "since": ("--since", "2030-01-01"),
}
_LATER = 1_900_000_000.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("METACLAW_HOME", str(tmp_path))

    def call(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.output) if "--json" in arguments else done.output

    return call


def remember(home: Path) -> dict[str, str]:
    """Memories among hundreds of others, so that pages split and move; the ids of those to be forgotten."""
    chance = Random(7)
    with MemoryStore.open(home / "memory" / "units.db") as store:
        ids: dict[str, str] = {}
        for number, why in enumerate(FORGOTTEN):
            agent = "shadow" if why == "agent" else "main"
            session = f"s-{why}"
            said = unit(
                f"canary{why} xylophone barn",
                agent=agent,
                turns=(f"t-{why}",),
                said_at=_LATER if why == "since" else NOW,
            )
            extraction = Extraction(exchange=why, agent=agent, session=session, turns=(f"t-{why}",), units=(said,))
            [ids[why]] = store.record(extraction, now=NOW)
            words = ["alpha", "beta", "gamma", "delta"]
            others = [" ".join(chance.choices(words, k=chance.randrange(3, 90))) + f" {number} {n}" for n in range(60)]
            store.add([unit(text) for text in others], now=NOW)
    return ids


async def recall(home: Path, ids: dict[str, str]) -> None:
    """Every memory in a turn's block, among other blocks."""
    chance = Random(8)
    async with TurnJournal(home / "turns.db") as journal:
        for why, memory in ids.items():
            await journal.open_turn(
                new_turn(
                    f"asks-{why}", user("hello"), session=why,
                    weighed=[Weighed(kind="memory", item=memory, score=1.0, outcome="recalled")],
                )
            )  # fmt: skip
            await journal.close_turn(f"asks-{why}", done())
            texts = [f"<canary{why} {'x' * chance.randrange(20, 3000)}>" for _ in range(200)]
            ours = [RecallBlock(text=t, items=(f"memory:{memory}",), spans=((1, len(t) - 1),)) for t in texts]
            others = [RecallBlock(text="x" * chance.randrange(20, 3000)) for _ in range(20)]
            blocks = [(BlockKey(chance.randbytes(32), 0), one) for one in (*ours, *others)]
            await journal.claim_blocks("main", f"asks-{why}", blocks, now=NOW)


def files_with_canaries(home: Path) -> set[str]:
    return {f.name for f in home.rglob("*") if f.is_file() and b"canary" in f.read_bytes().lower()}


async def test_no_byte_below_the_home_has_what_was_forgotten(tmp_path: Path, run: Any) -> None:
    ids = remember(tmp_path)
    await recall(tmp_path, ids)
    assert files_with_canaries(tmp_path) == {"units.db", "turns.db"}
    number = run("memory", "stats", "--json")["units"]
    assert run("audit", "--text", "canaryunit xylophone barn", "--json", code=1)["files"]
    for why, how in FORGOTTEN.items():
        told = run("memory", "forget", *(how or (ids[why],)), "--json", "--yes")
        assert (told["ids"], told["is_clean"]) == ([ids[why]], True)
    assert files_with_canaries(tmp_path) == set()
    found = run("audit", "--text", "canary", "--json")
    assert (found["ok"], found["forgotten"], found["problems"], found["files"]) == (True, 5, [], [])
    assert run("memory", "stats", "--json")["units"] == number - 5


async def test_each_thing_that_is_left_is_found(tmp_path: Path, run: Any) -> None:
    ids = remember(tmp_path)
    await recall(tmp_path, ids)
    run("memory", "forget", "--session", "s-session", "--json", "--yes")
    with closing(sqlite3.connect(tmp_path / "memory" / "units.db")) as db:
        gone = ids["session"]
        db.execute("INSERT INTO words (rowid, body) VALUES (9999, 'canary')")
        db.execute("INSERT INTO unit_turns (unit, turn) VALUES (?, 't')", (gone,))
        db.execute("INSERT INTO uses VALUES (?, 1, 1.0)", (gone,))
        db.execute("INSERT OR REPLACE INTO forgotten SELECT id, digest, agent, '[]', 'x', 1.0, NULL FROM units LIMIT 1")
        db.commit()
    with closing(sqlite3.connect(tmp_path / "turns.db")) as db:
        db.execute("UPDATE block_memories SET memory = ? WHERE memory = ?", (gone, ids["unit"]))
        db.execute("INSERT INTO erasures VALUES (1, 1)")
        db.commit()
    found = run("audit", "--json", code=1)["problems"]
    assert len(found) == 7
    assert "PROBLEM" in run("audit", code=1)


async def test_what_was_made_of_its_turns_is_named_with_what_can_be_done(tmp_path: Path, run: Any) -> None:
    ids = remember(tmp_path)
    await recall(tmp_path, ids)
    path = tmp_path / "learning.db"
    with LearningJournal.open(path) as journal:
        judge(journal, "t-unit", "asks-query", "clean")
        for number, turn in enumerate(("clean", "asks-query"), 1):
            commit(journal, journal.claim("main", number - 1, [turn]), number)
    with SkillTrials.open(path) as trials:
        new = NewCandidate(
            id="c1", agent="main", name="brew-tea", description="Tea.", body="Boil.", base=None, why="", author="m",
            exchanges=("x",), turns=("t-unit", "t-9"),
        )  # fmt: skip
        trials.record_evolution(Evolution(agent="main", author="m", num_failures=1), [new])
    told = run("memory", "forget", ids["unit"], "--json", "--yes")
    assert [(one["kind"], one["name"]) for one in told["descendants"]] == [("skill", "brew-tea")]
    run("memory", "forget", "--query", "canaryquery", "--json", "--yes")
    folder = tmp_path / "skills" / "main" / "brew-tea"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: brew-tea\ndescription: Tea.\n---\n\nBoil.\n")
    [origin] = run("skills", "show", "brew-tea", "--agent", "main", "--json")["forgotten_origins"]
    assert "forgotten" in origin
    skill, version = run("audit", "--json")["descendants"]
    assert (skill["name"], skill["state"], skill["turns"]) == ("brew-tea", "trial", ["t-unit"])
    assert skill["remedy"] == "`metaclaw skills retire brew-tea --agent main` ends it"
    assert (version["name"], version["is_served"], version["clean_parent"]) == ("main@2", True, 1)
    assert "main@2 of main (serving): roll main back to version 1" in run("audit")


def test_a_copy_of_the_store_is_named_as_long_as_it_is_there(tmp_path: Path, run: Any) -> None:
    ids = remember(tmp_path)
    copy, lines = tmp_path / "copy.db", tmp_path / "lines.jsonl"
    run("memory", "backup", str(copy))
    run("memory", "export", str(lines))
    run("memory", "forget", ids["unit"], "--json", "--yes")
    assert [(one["kind"], one["number"]) for one in run("audit", "--json")["copies"]] == [("backup", 1), ("export", 1)]
    copy.unlink()
    assert "delete it" in run("audit")
    lines.unlink()
    assert run("audit", "--json")["copies"] == []
