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
    tokens(tmp_path, "create", "big", "--tokens-per-day", "2000000")
    assert "tokens_per_day 2,000,000" in metaclaw(tmp_path, "tokens", "list").stdout
    assert (tmp_path / "access.db").stat().st_mode & 0o077 == 0
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_a_token_is_the_agent_of_its_own_name_unless_somebody_says_otherwise(tmp_path: Path):
    """PITFALLS, run under faults: with another key, user B was told what user A had said."""
    assert tokens(tmp_path, "create", "Bob")["agent"] == "bob"
    assert tokens(tmp_path, "create", "laptop", "--agent", "main")["agent"] == "main"
    assert tokens(tmp_path, "create", "my own gateway", "--any-agent")["agent"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("revoke", "nobody"), "tokens list"),
        (("create", "x", "--agent", "../etc"), "agent id '../etc' is not valid"),
        (("create", " "), "cannot be the name of an agent"),
        (("create", "Anna's laptop"), "add --agent NAME"),
        (("create", "x", "--agent", "a", "--any-agent"), "give one of them"),
    ],
    ids=str,
)
def test_what_cannot_be_done_says_why(tmp_path: Path, arguments: tuple[str, ...], says: str):
    done = metaclaw(tmp_path, "tokens", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stdout == ""
