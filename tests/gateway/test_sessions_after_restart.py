"""Conversations without a session's name that go on after a restart, when only the journal knows what was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
LONG = "This answer is long enough to be nobody else's, as it goes on about the matter at hand: one, two, three"


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    return {"role": "assistant", "content": text}


async def sessions_of(home: Path, answer: Answer, first: Json, later: list[Json]) -> tuple[str, list[str]]:
    """The session of a request, and those of ``later`` ones, each after a restart."""
    async with fake_llm(lambda _: answer) as llm:
        bodies = [first, *later]
        for body in bodies:
            async with running_gateway(make_settings(home, llm_url=llm.url)) as gateway:
                async with gateway.post(body) as response:
                    await response.read()
                turns = await gateway.turns()
    begun, *others = [turn.session for turn in turns]
    return begun, others


async def test_an_answer_that_the_client_began_is_found_again(tmp_path: Path) -> None:
    """Who wants JSON of Claude writes its first character for it."""
    first = {"messages": [user("count"), said("{")]}
    theirs = {"messages": [user("count"), said('{"n": 1}'), user("again"), said("{")]}
    others = {"messages": [user("count"), said('{"n": 2}'), user("again"), said("{")]}
    session, later = await sessions_of(tmp_path, Answer(text='"n": 1}'), first, [others, theirs])
    assert later[0] != session
    assert later[1] == session


async def test_an_answer_of_which_its_client_read_a_part_is_found_again(tmp_path: Path) -> None:
    first = {"messages": [user("tell")], "stream": True}
    broken = Answer(text=LONG, break_after=len(LONG.split()) - 1)
    theirs = {"messages": [user("tell"), said(LONG[:-14]), user("and then?")]}
    few = {"messages": [user("tell"), said(LONG[:20]), user("and then?")]}
    session, later = await sessions_of(tmp_path, broken, first, [few, theirs])
    assert later[0] != session
    assert later[1] == session
