"""``metaclaw keys``, as a person or a script uses it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.programs import metaclaw


def keys(home: Path, *arguments: str):
    done = metaclaw(home, "keys", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_is_made_listed_and_revoked(tmp_path: Path):
    made = keys(tmp_path, "create", "anna", "--max-models", "2", "--max-bytes", "1.5GiB", "--max-requests", "8")
    assert made["key"].startswith("tml-")
    assert (made["max_models"], made["max_bytes"], made["max_requests"]) == (2, 3 * 2**29, 8)
    listed = keys(tmp_path, "list")
    assert [each["name"] for each in listed] == ["anna"]
    assert made["key"] not in json.dumps(listed)
    assert keys(tmp_path, "revoke", made["id"])["revoked_at"] is not None
    database = tmp_path / "train-server" / "server.db"
    assert database.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM keys WHERE revoked_at IS NOT NULL").fetchone() == (1,)


def test_what_cannot_be_is_one_sentence(tmp_path: Path):
    for arguments, words in (
        (("revoke", "nobody"), "keys list"),
        (("create", "anna", "--max-bytes", "many"), "is not a size"),
        (("create", " "), "no name"),
    ):
        done = metaclaw(tmp_path, "keys", *arguments)
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr
