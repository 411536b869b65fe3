"""A home on a disk that cannot be written, such as a mounted backup."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from metaclaw.journal.turns import TurnJournal
from tests.cli.programs import METACLAW, metaclaw
from tests.journal.test_recording_faults import opening

_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" "$0" && exec "$@"'


def there(home: Path) -> tuple[str, ...]:
    """The command where ``home`` is mounted read-only: permissions alone stop nobody who is root."""
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _READ_ONLY, str(home))
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here")
    return (*command, *METACLAW)


def recorded(home: Path) -> None:
    async def record() -> None:
        async with TurnJournal(home / "turns.db") as journal:
            journal.append(opening("t1"))
            await journal.flush()

    asyncio.run(record())


def test_what_a_home_holds_can_be_read_where_nothing_can_be_written(tmp_path: Path):
    recorded(tmp_path)
    assert metaclaw(tmp_path, "memory", "add", "The shed is painted red.").returncode == 0
    command = there(tmp_path)
    for words, expected in {
        "journal export": '"id": "t1"',
        "journal verify": "1 turn,",
        "memory list": "painted red",
        "memory search shed": "painted red",
        "memory export": "painted red",
        "skills show unit-tests": "unit-tests",
        "agents list": "main",
        "stop": "not running",
    }.items():
        done = metaclaw(tmp_path, *words.split(), command=command)
        assert (done.returncode, expected in done.stdout) == (0, True), (words, done.stdout, done.stderr)
    assert "not running" in metaclaw(tmp_path, "status", command=command).stdout
    assert metaclaw(tmp_path, "memory", "add", "It is blue.", command=command).returncode == 1


def test_a_home_that_was_not_stopped_says_that_its_newest_turns_need_a_copy(tmp_path: Path):
    recorded(tmp_path)
    (tmp_path / "turns.db-wal").write_bytes(b"what was not in the file yet")
    done = metaclaw(tmp_path, "journal", "export", command=there(tmp_path))
    assert done.returncode == 1
    assert "copy the home" in done.stderr


def test_a_home_without_a_journal_says_so(tmp_path: Path):
    assert f"there is no journal at {tmp_path / 'turns.db'}" in metaclaw(tmp_path, "journal", "export").stderr
