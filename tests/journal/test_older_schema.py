"""Databases of an older release, looked at before the gateway and the learner have brought them up to date."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer
from metaclaw.journal.judge_statistics import read_facts
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.policy_reader import read_policies
from metaclaw.journal.verification import verify

READERS: dict[str, Callable[[Path], list[object]]] = {
    "policies": lambda path: list(read_policies(path, now=0.0)),
    "judge": lambda path: list(read_facts(path)),
}


def older(path: Path, schema: int) -> None:
    """A version that was trained, and a verdict as releases with ``schema`` wrote it."""
    scripts = resources.files("metaclaw.journal").joinpath("migrations")
    with closing(sqlite3.connect(path)) as old:
        for number in range(1, schema + 1):
            old.executescript(scripts.joinpath(f"learning_{number:04}.sql").read_text(encoding="utf-8"))
        old.executescript(f"""
            INSERT INTO judgements (exchange, agent, state, score, judge, detail, judged_at)
                VALUES ('x', 'main', 'judged', 1.0, 'llm:j', '{{"votes": [1.0]}}', 0.0);
            INSERT INTO updates (id, agent, parent, state, started_at) VALUES (1, 'main', 0, 'committed', 0);
            INSERT INTO versions (agent, version, parent, update_id, base_model, state_path, sampler_path, created_at)
                VALUES ('main', 1, 0, 1, 'base', 'state', 'sampler', 1.0);
            INSERT INTO serving (agent, version, since) VALUES ('main', 1, 1.0);
            PRAGMA user_version = {schema};
        """)


@pytest.mark.parametrize("schema", [1, 2, 6])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_what_an_older_release_learned_is_not_told_as_nothing(tmp_path: Path, schema: int, reader):
    path = tmp_path / "learning.db"
    older(path, schema)
    (status,) = read_status(path)
    assert (status.serving, status.judged) == (1, 1)
    with pytest.raises(JournalError, match=r"learning\.db is of an older release; the learner brings it up to date"):
        reader(path)
    open_writer(path, "learning").close()
    assert len(reader(path)) == 1


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_a_file_that_is_just_being_made_has_nothing_to_tell(tmp_path: Path, reader):
    path = tmp_path / "learning.db"
    sqlite3.connect(path).close()
    assert reader(path) == []


@pytest.mark.parametrize("script", ["turns_0001.sql", None], ids=["older", "being made"])
def test_turns_that_cannot_be_verified_yet_say_why(tmp_path: Path, script: str | None):
    """It was "no such table: spool"."""
    path = tmp_path / "turns.db"
    with closing(sqlite3.connect(path)) as old:
        if script is not None:
            schema = resources.files("metaclaw.journal").joinpath("migrations", script).read_text(encoding="utf-8")
            old.executescript(schema + "PRAGMA user_version = 1;")
    with pytest.raises(JournalError, match="of an older release" if script else "being made"):
        verify(path)
    open_writer(path, "turns").close()
    assert verify(path).problems == ()


FULL = """
import resource, sqlite3, sys
from contextlib import closing
from pathlib import Path
from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer

path = Path(sys.argv[1])

def state():
    with closing(sqlite3.connect(path)) as there:
        asked = "PRAGMA user_version", "SELECT sql FROM sqlite_master ORDER BY name", "SELECT * FROM serving"
        return [there.execute(each).fetchall() for each in asked]

before, refused = state(), 0
for size in range(4096, 1 << 20, 4096):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        open_writer(path, "learning").close()
    except JournalError:
        refused += 1
    else:
        break
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert state() == before, size
assert state()[0] > before[0] and state()[2] == before[2]
print(refused)
"""


def test_a_disk_that_fills_up_while_it_is_brought_up_to_date_leaves_it_as_it_was(tmp_path: Path):
    """PITFALLS, run under faults: a healthy database that could not be opened was renamed, and overwritten at the
    second start. Each time a page more has room."""
    path = tmp_path / "learning.db"
    older(path, 1)
    child = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 10
    assert len(READERS["policies"](path)) == 1
    assert {one.name for one in tmp_path.iterdir()} <= {"learning.db", "learning.db-wal", "learning.db-shm"}


def test_who_judged_is_known_of_verdicts_from_before_they_said_so(tmp_path: Path):
    path = tmp_path / "learning.db"
    older(path, 2)
    open_writer(path, "learning").close()
    (facts,) = read_facts(path)
    assert facts.judged == {"llm": 1}
