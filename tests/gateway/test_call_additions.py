"""What models want back with their calls, where the client's dialect has no place for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}
NOT_SIGNED = {"google": {"thought_signature": "skip_thought_signature_validator"}}
DETAILS = [{"type": "reasoning.encrypted", "data": "AAAA", "format": "google-gemini-v1", "index": 0}]
CALLS: list[Json] = [
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"at": [1, 2]}'},
        "extra_content": SIGNED,
    },
    {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
]
TOOL: Json = {"name": "look", "input_schema": {"type": "object", "properties": {}}}


def gemini(body: Json) -> Answer:
    """Calls twice at once, then says what it saw."""
    if any(message["role"] == "tool" for message in body["messages"]):
        return Answer(text="done")
    message = {"role": "assistant", "content": None, "tool_calls": CALLS, "reasoning_details": DETAILS}
    if not body.get("stream"):
        return Answer(message=message, finish_reason="tool_calls")
    calls = [{**call, "index": number} for number, call in enumerate(CALLS)]
    deltas: list[Json] = [{**message, "tool_calls": [call]} for call in calls[:1]] + [{"tool_calls": calls[1:]}]
    chunks: list[Json] = [{"id": "c", "model": "g", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last: Json = {"id": "c", "model": "g", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return Answer(events=(*chunks, last))


async def by_messages(gateway: RunningGateway, model: str, *, is_stream: bool, strips_ids: bool = False) -> None:
    async with AsyncAnthropic(base_url=gateway.url, api_key=TOKEN, max_retries=0) as client:
        messages: Any = client.messages
        asked: Any = {"model": model, "max_tokens": 100, "tools": [TOOL]}
        history: list[Any] = [{"role": "user", "content": "look"}]
        if is_stream:
            async with messages.stream(messages=history, **asked) as stream:
                answer = await stream.get_final_message()
        else:
            answer = await messages.create(messages=history, **asked)
        said: list[Json] = answer.model_dump()["content"]
        assert "thought_signature" not in json.dumps(said)
        for block in said:
            block["id"] = block["id"].replace("_", "") if strips_ids else block["id"]
        results = [{"type": "tool_result", "tool_use_id": block["id"], "content": "seen"} for block in said]
        history += [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
        await messages.create(messages=history, **asked)


async def by_responses(gateway: RunningGateway, model: str, *, is_stream: bool) -> None:
    client: Any = gateway.client
    tool: Json = {"type": "function", "name": "look", "parameters": {}, "strict": False}
    asked: Any = {"model": model, "tools": [tool]}
    history: list[Any] = [{"role": "user", "content": "look"}]
    if is_stream:
        async with client.responses.stream(input=history, **asked) as stream:
            answer = await stream.get_final_response()
    else:
        answer = await client.responses.create(input=history, **asked)
    calls: list[Any] = [item.model_dump(exclude_none=True) for item in answer.output if item.type == "function_call"]
    for call in calls:
        call.pop("parsed_arguments", None)
    results = [{"type": "function_call_output", "call_id": call["call_id"], "output": "seen"} for call in calls]
    await client.responses.create(input=[*history, *calls, *results], **asked)


def sent_back(llm: FakeLlm) -> Json:
    """The message with the calls, as the model got it again."""
    [message] = [message for message in llm.requests[-1]["messages"] if message["role"] == "assistant"]
    return message


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("ask", [by_messages, by_responses])
async def test_a_model_gets_back_what_it_said_beside_its_calls(tmp_path: Path, ask: Any, is_stream: bool) -> None:
    async with fake_llm(gemini) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        await ask(gateway, "gemini-3-pro", is_stream=is_stream)
    message = sent_back(llm)
    assert [call.get("extra_content") for call in message["tool_calls"]] == [SIGNED, None]
    assert message["reasoning_details"] == DETAILS


async def test_it_does_so_with_ids_that_a_client_has_rewritten(tmp_path: Path) -> None:
    """OpenClaw's ``toolu_1`` comes back as ``toolu1``."""
    async with fake_llm(gemini) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        await by_messages(gateway, "google/gemini-3-pro", is_stream=False, strips_ids=True)
    assert [call["id"] for call in sent_back(llm)["tool_calls"]] == ["call1", "call2"]
    assert sent_back(llm)["tool_calls"][0]["extra_content"] == SIGNED


@pytest.mark.parametrize(
    ("model", "added"),
    [("gemini-3-pro", NOT_SIGNED), ("models/gemini-flash-latest", NOT_SIGNED), ("gemini-2.5-pro", None), ("m", None)],
)
async def test_calls_that_nobody_signed_are_said_to_be_that_to_a_gemini_that_asks_for_it(
    tmp_path: Path, model: str, added: Json | None
) -> None:
    """Of another model, or of before a restart: it would refuse the whole session."""
    async with (
        fake_llm(gemini) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        gateway.post(_request(model, [("t1", {}), ("t2", {})]), "/v1/messages") as response,
    ):
        assert response.status == 200
    assert [call.get("extra_content") for call in sent_back(llm)["tool_calls"]] == [added, None]


async def test_nothing_of_it_goes_to_another_upstream(tmp_path: Path) -> None:
    async with (
        fake_llm(gemini) as first,
        fake_llm(gemini) as second,
        running_gateway(make_settings(tmp_path, llm_url=first.url, llm={"provider": "first"})) as gateway,
    ):
        await by_messages(gateway, "m", is_stream=False)
        await gateway.adopt(make_settings(tmp_path, llm_url=second.url, llm={"provider": "second"}))
        async with gateway.post(_again(sent_back(first)), "/v1/messages") as response:
            assert response.status == 200
    message = sent_back(second)
    assert [call["id"] for call in message["tool_calls"]] == ["call_1", "call_2"]
    assert not any("extra_content" in call for call in message["tool_calls"])
    assert "reasoning_details" not in message


def deepseek(body: Json) -> Answer:
    """Thinks before it calls, and wants that back."""
    if any(message["role"] == "tool" for message in body["messages"]):
        return Answer(text="done")
    call = {key: value for key, value in CALLS[0].items() if key != "extra_content"}
    return Answer(
        message={"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
        finish_reason="tool_calls",
    )


async def test_what_was_thought_before_a_call_goes_back_with_it_if_the_client_leaves_it_out(tmp_path: Path) -> None:
    """Codex does, of a model that it does not know, and DeepSeek refuses the history (400)."""
    async with fake_llm(deepseek) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        await by_responses(gateway, "deepseek-v4", is_stream=False)
        assert sent_back(llm)["reasoning_content"] == "hm"
        request = _again(sent_back(llm))
        own = {"type": "thinking", "thinking": "its own", "signature": ""}
        request["messages"][1]["content"].insert(0, own)
        async with gateway.post(request, "/v1/messages") as response:
            assert response.status == 200
    assert sent_back(llm)["reasoning_content"] == "its own"


def _again(message: Json) -> Json:
    """A request whose history has the calls of a chat message."""
    calls = [(call["id"], json.loads(call["function"]["arguments"])) for call in message["tool_calls"]]
    return _request("m", calls)


def _request(model: str, calls: list[tuple[str, Json]]) -> Json:
    uses: list[Json] = [{"type": "tool_use", "id": uid, "name": "look", "input": given} for uid, given in calls]
    results: list[Json] = [{"type": "tool_result", "tool_use_id": uid, "content": "seen"} for uid, _ in calls]
    messages: list[Json] = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": uses},
        {"role": "user", "content": results},
    ]
    return {"model": model, "max_tokens": 10, "messages": messages}
