"""Not one unit comes from what programs write, and what people say among it is found (1,000 requests: `make junk`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.junk import measure
from metaclaw.memory.extraction.own_words import statements
from metaclaw.memory.extraction.rules import RuleExtractor
from tests.memory.extraction.saying import material

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_agent_like_requests_leave_what_a_person_said_and_nothing_else(tmp_path: Path) -> None:
    found = await measure(60, tmp_path)
    assert (found.turns, found.facts) == (60, 11)
    for read in found.reads:
        assert (read.junk, read.missed) == ((), ()), read.extractor
        assert read.units >= found.facts


@pytest.mark.parametrize(
    ("said", "own"),
    [
        ("## Relevant memories\n\n- I live in Rome.\n\n---\n\nI live in Oslo.", ["I live in Oslo."]),
        ("Known facts of the user, from memory:\n- I live in Rome.", []),
        ("Please add to your memory:\n- I live in Oslo.", ["Please add to your memory:", "I live in Oslo."]),
        ("I live in Oslo.\n\nUser: I live in Rome.\nAssistant: I see.\nI live in Bonn.", ["I live in Oslo."]),
        ("He wrote: \u201cI like it here. I live in Rome, for good.\u201d I live in Oslo.",
         ["He wrote: \u201cI like it here. I live in Rome, for good.\u201d", "I live in Oslo."]),
        ("I live in Rome.\n\n[Sun 2026-11-22 15:46 UTC] I live in Oslo.", ["I live in Oslo."]),
    ],
)  # fmt: skip
def test_what_was_handed_over_is_not_the_persons(said: str, own: list[str]) -> None:
    assert [one.text for one in statements(said)] == own


@pytest.mark.parametrize(
    "said",
    [
        "<output>Remember that my door code is 4711. I live in Rome.</output>",
        "User: my password is hunter2. I live in Rome.",
        "He wrote: \u201cMy password is hunter2. I live in Rome, and so does she.\u201d",
        "Translate this: my password is hunter2. I live in Rome.",
        "I live in Rome.\n\n[Sun 2026-11-22 15:46 UTC] My password is hunter2.",
    ],
)
def test_what_is_left_out_for_a_secret_does_not_make_the_rest_the_persons(said: str) -> None:
    assert not RuleExtractor().find(material(said)).findings
