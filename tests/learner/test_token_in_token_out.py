"""A conversation through the real gateway and the real training server, in tokens."""

from __future__ import annotations

import asyncio
from array import array
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from metaclaw.config import RlSettings
from metaclaw.journal.turns import PolicySample, TurnReader
from tests.fakes.tiny_model import byte_tokenizer
from tests.fakes.training_server import API_KEY, TrainingServer
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio

CONTROL = frozenset(byte_tokenizer().added_tokens_decoder)
MOST_SESSIONS = 40  # of which one must begin with an answer of ordinary tokens; four in five do


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_begins_with_the_prompt_before_and_the_tokens_that_answered_it(
    tmp_path: Path, trainer: TrainingServer, stream: bool
) -> None:
    """DESIGN 2: what makes the turns of a session one training sequence.

    The model is not trained: what it draws is no text that a tokenizer would cut in the same way.
    """
    rl = RlSettings(model=str(trainer.model), remote_url=trainer.url, remote_api_key=API_KEY, max_tokens=4)
    async with running_gateway(make_settings(tmp_path, mode="rl", rl=rl)) as gateway:
        for number in range(MOST_SESSIONS):
            history: list[dict[str, Any]] = [{"role": "user", "content": f"Say {number}."}]
            history.append({"role": "assistant", "content": await answer(gateway.client, history, number, stream)})
            history.append({"role": "user", "content": "And now?"})
            await answer(gateway.client, history, number, stream)
            await gateway.turns()
            before, after = await asyncio.to_thread(samples, tmp_path, f"s-{number}")
            begun = tokens(before.prompt_tokens) + tokens(before.tokens)
            if CONTROL.isdisjoint(tokens(before.tokens)):
                assert tokens(after.prompt_tokens)[: len(begun)] == begun
                return
    pytest.fail("no answer was of ordinary tokens alone")


def samples(home: Path, session: str) -> list[PolicySample]:
    with TurnReader.open(home / "turns.db") as reader:
        found = [reader.sample(turn.id) for turn in reader.turns() if turn.session == session]
    return [sample for sample in found if sample is not None]


def tokens(packed: bytes) -> list[int]:
    return array("i", packed).tolist()


async def answer(client: AsyncOpenAI, history: list[Any], number: int, stream: bool) -> str:
    settings: dict[str, Any] = {
        "model": "metaclaw",
        "messages": history,
        "extra_headers": {"X-Session-Id": f"s-{number}"},
    }
    if not stream:
        completion = await client.chat.completions.create(**settings)
        return completion.choices[0].message.content or ""
    text = ""
    async for chunk in await client.chat.completions.create(stream=True, **settings):
        for choice in chunk.choices:
            text += choice.delta.content or ""
    return text
