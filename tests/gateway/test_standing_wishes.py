"""What the user wants whatever they ask goes before the model once in each conversation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.llm import FakeLlm, fake_llm
from tests.gateway.running import make_settings, running_gateway
from tests.gateway.test_memory_process import two_processes
from tests.gateway.test_memory_recall import ask, remember, user

pytestmark = pytest.mark.anyio

WISH = "Please always answer in German."
ASKED = "How high is Mount Everest?"
ANSWER = {"role": "assistant", "content": "8849 m."}


def told(llm: FakeLlm, wish: str = WISH) -> int:
    """How often a wish stands in the last prompt."""
    return json.dumps(llm.requests[-1]["messages"]).count(wish)


async def test_a_wish_is_told_once_in_a_conversation_whatever_is_asked(tmp_path: Path) -> None:
    await remember(tmp_path, WISH, kind="preference", standing=True)
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        await ask(gateway, user(ASKED))
        first = llm.requests[-1]["messages"]
        assert told(llm) == 1
        await ask(gateway, user(ASKED), ANSWER, user("And K2?"))
        assert told(llm) == 1, "it is there already"
        assert llm.requests[-1]["messages"][0] == first[0], "the prompt begins as before"
        await ask(gateway, user("What were we at?"), **{"X-Session-Id": "after-a-compaction"})
        assert told(llm) == 1
        await ask(gateway, user("K2?"), **{"X-Session-Id": "t", "X-Memory-Scope": "none"})
        assert told(llm) == 0
        await ask(gateway, user("K3?"), **{"X-Session-Id": "u", "X-Agent-Id": "other"})
        assert told(llm) == 0
        await ask(gateway, user("K4?"), **{"X-Session-Id": "v", "X-Turn-Type": "side"})
        assert told(llm) == 0


@pytest.mark.parametrize(("most", "number"), [(2, 2), (0, 0)])
async def test_so_many_wishes_are_told_in_a_conversation_and_no_more(tmp_path: Path, most: int, number: int) -> None:
    places = ["Rome", "Oslo", "Bern", "Riga"]
    await remember(tmp_path, *(f"Never speak of {place}." for place in places), kind="preference", standing=True)
    recall = {"max_standing": most}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url, recall=recall)) as gateway:
        await ask(gateway, user(ASKED))
        assert told(llm, "Never speak of") == number
        await ask(gateway, user(ASKED), ANSWER, user("And K2?"))
        assert told(llm, "Never speak of") == number
        await ask(gateway, user(ASKED), ANSWER, user("Speak of Oslo."))
        assert told(llm, "Never speak of Oslo.") == 1, "what fits is told however many stand"


async def test_wishes_are_told_from_the_memory_of_another_process(tmp_path: Path) -> None:
    await remember(tmp_path / "kept", WISH, kind="preference", standing=True)
    async with two_processes(tmp_path) as (gateway, llm):
        await ask(gateway, user(ASKED))
        assert told(llm) == 1
