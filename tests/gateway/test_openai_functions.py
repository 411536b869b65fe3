"""Clients with tools before OpenAI's newer models, whose chat refuses functions and whose responses take them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from metaclaw.upstreams.presets import PRESETS
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
LOOK: Json = {"name": "look", "parameters": {"type": "object", "properties": {}}}
CALL_ITEM: Json = {
    "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}", "status": "completed"
}  # fmt: skip
HELLO: Any = [{"role": "user", "content": "hello"}]


def calls(body: Json) -> Answer:
    """Calls in responses; chat is answered as usual, so that a test sees which it was."""
    return Answer(message={"output": [CALL_ITEM]}) if "input" in body else Answer()


@asynccontextmanager
async def before_openai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[FakeLlm, RunningGateway]]:
    async with fake_llm(calls) as model:
        monkeypatch.setitem(PRESETS, "openai", replace(PRESETS["openai"], base_url=model.url))
        llm = {"provider": "openai", "api_key": "k", "max_attempts": 1}
        async with running_gateway(make_settings(tmp_path, llm=llm)) as gateway:
            yield model, gateway


@pytest.mark.parametrize("is_stream", [False, True])
async def test_claude_code_uses_tools_with_any_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    asked: Any = {"model": "gpt-5.6", "max_tokens": 99, "tools": [{"name": "look", "input_schema": {"type": "object"}}]}
    asked |= {"output_config": {"effort": "high"}, "messages": HELLO}
    async with (
        before_openai(tmp_path, monkeypatch) as (model, gateway),
        AsyncAnthropic(base_url=gateway.url, api_key=TOKEN, max_retries=0) as client,
    ):
        if is_stream:
            async with client.messages.stream(**asked) as stream:
                answer = await stream.get_final_message()
        else:
            answer = await client.messages.create(**asked)
        [turn] = await gateway.turns()
    [block] = answer.content
    assert (block.type, answer.stop_reason) == ("tool_use", "tool_use")
    [request] = model.requests
    assert request["reasoning"] == {"effort": "high"}
    assert [tool["name"] for tool in request["tools"]] == ["look"]
    assert turn.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("model", "more", "is_changed"),
    [
        ("gpt-5.4", {}, True),
        ("gpt-6-mini", {"reasoning_effort": "low"}, True),
        ("gpt-5.6-terra", {"reasoning_effort": "none"}, False),
        ("gpt-5.6", {"tools": []}, False),
        ("gpt-5.6", {"n": 2}, False),
        ("gpt-5.1", {}, False),
        ("gpt-4.1", {}, False),
    ],
)
async def test_a_client_of_chat_is_changed_only_where_it_would_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, more: Json, is_changed: bool
) -> None:
    body = {"model": model, "messages": HELLO, "tools": [{"type": "function", "function": LOOK}], **more}
    async with before_openai(tmp_path, monkeypatch) as (openai, gateway), gateway.post(body) as response:
        answer = await response.json()
    assert ("input" in openai.requests[0]) == is_changed
    assert (answer["choices"][0]["finish_reason"] == "tool_calls") == is_changed
