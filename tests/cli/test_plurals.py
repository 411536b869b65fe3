"""Numbers of things, in what the commands print."""

from __future__ import annotations

import pytest

from metaclaw.cli.plurals import counted


@pytest.mark.parametrize(
    ("number", "thing", "said"),
    [
        (0, "file", "0 files"),
        (1, "file", "1 file"),
        (2, "memory", "2 memories"),
        (1, "memory", "1 memory"),
        (1_000, "turn", "1,000 turns"),
        (2, "more time", "2 more times"),
    ],
)
def test_one_thing_is_never_told_as_several(number: int, thing: str, said: str):
    assert counted(number, thing) == said
