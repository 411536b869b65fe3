"""A session of the real OpenClaw, as it was recorded: each prompt begins with the one before, but for what it moves.

``recorded/openclaw_chat.json`` has what OpenClaw sent, without its 48 kB of instructions and all tools but one.
"""

from __future__ import annotations

import asyncio
import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.agents.conversations import without_what_moves
from tests.fakes.llm import fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway
from tests.gateway.test_memory_recall import remembered
from tests.gateway.test_recall_and_identity import write_skill

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
RECORDED = json.loads((Path(__file__).parent / "recorded" / "openclaw_chat.json").read_text(encoding="utf-8"))
BODIES: list[Json] = [
    {**RECORDED["body"], "messages": [RECORDED["messages"][index] for index in request]}
    for request in RECORDED["requests"]
]


async def send(gateway: RunningGateway, body: Json) -> None:
    async with gateway.post({**body, "stream": False, "stream_options": None}) as response:
        await response.read()
        assert response.status == 200


async def test_every_prompt_of_a_recorded_openclaw_session_begins_with_the_one_before(tmp_path: Path) -> None:
    """With a skill and a memory recalled, a retry, two equal requests at once, a fork, and the oldest cut off."""
    write_skill(tmp_path, "git-commit", "Write git commit messages", body="Use the imperative.")
    memory = "The colour of the new logo shall be dark green"
    await asyncio.to_thread(remembered, tmp_path, memory, source="user")
    last = BODIES[-1]["messages"]
    fork = [*last[:-4], {"role": "assistant", "content": "Blue, I think."}, *last[-2:]]
    cut = [last[0], *last[3:]]
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for body in BODIES:
            await send(gateway, body)
        await send(gateway, BODIES[-1])
        await asyncio.gather(*(send(gateway, BODIES[3]) for _ in range(2)))
        await send(gateway, {**BODIES[-1], "messages": fork})
        await send(gateway, {**BODIES[-1], "messages": cut})
    heads, prompts = zip(*map(without_what_moves, llm.requests), strict=True)
    assert len(set(heads)) == 1
    recorded, others = prompts[: len(BODIES)], prompts[len(BODIES) :]
    for before, after in pairwise(recorded):
        assert after[: len(before)] == before
    retry, one, other, forked, cut_off = others
    assert retry == recorded[-1]
    assert one == other == recorded[3]
    for prompt, known in combinations((*recorded, forked), 2):
        shared = min(len(prompt), len(known), len(last) - 5)
        assert prompt[:shared] == known[:shared]
    text = "".join(recorded[-1])
    assert text.count("Use the imperative.") == 1
    assert text.count(memory) == 1
    told = next(piece for piece in recorded[-1] if memory in piece)
    assert told in cut_off, "what was recalled for a message stays as it was where the beginning is cut off"
