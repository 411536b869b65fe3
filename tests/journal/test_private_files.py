"""Who else on the machine may read what was recorded: nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metaclaw.journal.database import open_writer
from metaclaw.journal.turns import TurnJournal
from metaclaw.memory.store import MemoryStore
from tests.journal.test_recording_faults import opening

pytestmark = pytest.mark.anyio


def read_by_others(home: Path) -> list[tuple[str, str]]:
    """What is in ``home`` that somebody else may look into, but for locks, which are empty."""
    modes = ((path, path.stat().st_mode & 0o777) for path in (home, *home.rglob("*")) if path.suffix != ".lock")
    return [(path.name, oct(mode)) for path, mode in modes if mode & 0o077]


async def test_what_was_recorded_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    """PITFALLS S6, S7: prompts, answers and credentials lay there for everybody to read."""
    home, before = tmp_path / "home", os.umask(0)
    try:
        with MemoryStore.open(home / "memory" / "units.db"):
            async with TurnJournal(home / "turns.db") as journal:
                journal.append(opening("t1"))
                await journal.flush()
                journal.append(opening("t2"))
                learning = open_writer(home / "learning.db", "learning")
                learning.execute("INSERT INTO baselines VALUES ('main', 0.0, 1)")
                names = {path.name for path in home.rglob("*")}
                assert read_by_others(home) == []
                learning.close()
    finally:
        os.umask(before)
    assert {"turns.db-wal", "learning.db-wal", "units.db-shm", "00000001.log"} <= names


async def test_a_home_that_was_copied_so_that_others_can_read_it_is_closed_to_them(tmp_path: Path) -> None:
    """PITFALLS S6."""
    async with TurnJournal(tmp_path / "home" / "turns.db") as journal:
        journal.append(opening("t1"))
        await journal.flush()
    for path in (tmp_path / "home").iterdir():
        path.chmod(0o755 if path.is_dir() else 0o644)
    async with TurnJournal(tmp_path / "home" / "turns.db") as journal:
        journal.append(opening("t2"))
        await journal.flush()
        assert read_by_others(tmp_path / "home") == []
