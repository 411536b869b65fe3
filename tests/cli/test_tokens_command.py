"""``metaclaw tokens``, as a person or a script uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.programs import metaclaw


def tokens(home: Path, *arguments: str) -> Any:
    done = metaclaw(home, "tokens", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_token_is_made_listed_and_revoked(tmp_path: Path):
    made = tokens(
        tmp_path, "create", "anna", "--agent", "Ops", "--requests-per-minute", "5", "--tokens-per-day", "1000",
        "--usd-per-month", "2.5", "--max-concurrent", "2",
    )  # fmt: skip
    secret = made.pop("token")
    limits = {"requests_per_minute": 5, "tokens_per_day": 1000, "usd_per_month": 2.5, "max_concurrent": 2}
    assert (made["agent"], made["limits"]) == ("ops", limits)
    assert tokens(tmp_path, "list") == [made]
    assert tokens(tmp_path, "revoke", "anna")["revoked_at"] is not None
    assert "revoked" in metaclaw(tmp_path, "tokens", "list").stdout
    assert (tmp_path / "access.db").stat().st_mode & 0o077 == 0
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("revoke", "nobody"), "tokens list"),
        (("create", "x", "--agent", "../etc"), "agent id '../etc' is not valid"),
        (("create", " "), "is no name for a token"),
    ],
    ids=str,
)
def test_what_cannot_be_done_says_why(tmp_path: Path, arguments: tuple[str, ...], says: str):
    done = metaclaw(tmp_path, "tokens", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stdout == ""
