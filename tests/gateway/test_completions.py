"""Clients that let text be completed, before a model that chats and before one that completes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai import APIError, BadRequestError

from tests.fakes.llm import Answer
from tests.gateway.openai_dialects import CHAT, COMPLETIONS, Json, before, said_in
from tests.gateway.test_recall_and_identity import QUESTION, write_skill

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("dialects", [CHAT, COMPLETIONS], ids=["translated", "passed through"])


@BOTH
async def test_a_plain_answer_reaches_the_client_and_the_journal(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects) as (model, gateway):
        answer = await gateway.client.completions.create(model="any", prompt="hello", n=2, max_tokens=9)
        [turn] = await gateway.turns()
    assert answer.object == "text_completion"
    assert [choice.text for choice in answer.choices] == ["Hello from the fake model."] * 2
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10
    assert await said_in(turn, tmp_path) == [{"role": "user", "content": "hello"}]
    assert turn.answer == {"role": "assistant", "content": "Hello from the fake model."}
    assert turn.finish_reason == "stop"
    if dialects == CHAT:
        messages = [{"role": "user", "content": "hello"}]
        assert model.requests == [{"model": "any", "messages": messages, "n": 2, "max_tokens": 9}]


@BOTH
async def test_a_streamed_answer_reaches_the_client_and_the_journal(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects) as (_, gateway):
        usage = {"include_usage": True}
        stream = await gateway.client.completions.create(model="any", prompt="hi", stream=True, stream_options=usage)  # pyright: ignore
        chunks = [chunk async for chunk in stream]
        [turn] = await gateway.turns()
    assert [chunk.choices[0].text for chunk in chunks if chunk.choices][:5] == [
        "Hello ",
        "from ",
        "the ",
        "fake ",
        "model.",
    ]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10
    assert turn.answer == {"role": "assistant", "content": "Hello from the fake model."}
    assert turn.state == "done"


async def test_what_the_model_can_read_itself_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    body: Json = {"prompt": [[1, 2], [3]], "model": "any", "logprobs": 2, "echo": True, "own": {"é": [1.0, None]}}
    raw = json.dumps(body, ensure_ascii=False, indent=1).encode()
    async with before(tmp_path, COMPLETIONS) as (model, gateway):
        async with gateway.post(raw, "/v1/completions") as response:
            assert len((await response.json())["choices"]) == 2
        [turn] = await gateway.turns()
    assert model.raw_requests == [raw]
    assert (turn.state, turn.kind) == ("done", "side")


async def test_what_is_recalled_stands_before_the_prompt(tmp_path: Path) -> None:
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    async with before(tmp_path, COMPLETIONS) as (model, gateway):
        await gateway.client.completions.create(model="any", prompt=QUESTION)
    [sent] = model.requests
    assert "Use the imperative." in sent["prompt"]
    assert sent["prompt"].endswith(f"\n\n{QUESTION}")


async def test_what_a_chat_model_cannot_do_is_a_400_that_names_the_parameter(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT) as (model, gateway):
        with pytest.raises(BadRequestError, match="'suffix' cannot be had") as refusal:
            await gateway.client.completions.create(model="any", prompt="def f(", suffix="return x")
    assert refusal.value.param == "suffix"
    assert model.requests == []


@BOTH
async def test_a_model_that_breaks_off_is_an_error_in_the_stream(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects, lambda _: Answer(break_after=2)) as (_, gateway):
        with pytest.raises(APIError, match=r"middle|broke"):
            async for _ in await gateway.client.completions.create(model="any", prompt="hi", stream=True):
                pass
        [turn] = await gateway.turns()
    assert turn.state == "failed"
