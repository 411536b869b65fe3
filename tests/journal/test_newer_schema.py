"""A journal that a newer release wrote: never written by this one, and read as far as it can be, with a word of why."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from metaclaw.cli.main import app
from metaclaw.errors import JournalError
from metaclaw.journal.finished_updates import finished_updates
from metaclaw.journal.judge_statistics import read_facts
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_costs import spent_by_purpose
from metaclaw.journal.learning_records import Sample
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.policy_reader import read_policies
from metaclaw.journal.skill_costs import skill_costs

READERS: dict[str, Callable[[Path], object]] = {
    "status": read_status,
    "policies": lambda path: read_policies(path, now=0.0),
    "judge": read_facts,
    "updates": lambda path: finished_updates(path, after=0),
    "skills": skill_costs,
    "costs": spent_by_purpose,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "learning.db"
    sample = Sample(turn="t", exchange="x", agent="main", version=0, reward=1.0, sampled_at=0.0)
    with LearningJournal.open(path) as journal:
        journal.record_verdict(exchange="x", agent="main", judge="j", score=1.0, detail={}, samples=[sample])
        journal.claim("main", 0, ["t"])
    return path


def newer(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in ("PRAGMA user_version = 999", *statements):
            db.execute(statement)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_what_has_the_same_tables_is_read_and_what_has_others_says_who_wrote_it(path: Path, reader):
    before = reader(path)
    newer(path)
    assert reader(path) == before
    newer(
        path,
        "ALTER TABLE samples RENAME COLUMN reward TO prize",
        "ALTER TABLE versions RENAME TO policies",
        "ALTER TABLE updates RENAME COLUMN state TO how",
        "ALTER TABLE judgements RENAME COLUMN score TO points",
        "ALTER TABLE paid_calls RENAME COLUMN cost_usd TO eur",
        "ALTER TABLE evolutions RENAME COLUMN cost_usd TO eur",
    )
    with pytest.raises(JournalError, match=r"schema 999, written by a newer MetaClaw; .* upgrade MetaClaw"):
        reader(path)


def test_it_is_not_written(path: Path):
    newer(path)
    content = path.read_bytes()
    with pytest.raises(JournalError, match=r"written by a newer MetaClaw; .* Nothing in it was changed") as refused:
        LearningJournal.open(path)
    assert path.read_bytes() == content
    assert refused.value.__traceback__ is not None  # who keeps it keeps what its frames hold
    assert str(path) not in {file.path for file in psutil.Process().open_files()}


def test_the_command_says_it_in_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch):
    newer(path, "ALTER TABLE versions RENAME TO policies")
    monkeypatch.setenv("METACLAW_HOME", str(path.parent))
    done = CliRunner().invoke(app, ["status"])
    (trouble,) = [line for line in done.output.splitlines() if str(path) in line]  # and all else is told beside it
    assert "upgrade MetaClaw" in trouble
