"""Clients of the responses API, before a model that speaks chat and before one that speaks as they do."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import APIError, APIStatusError, BadRequestError, NotFoundError
from openai.types.responses import Response, ResponseTextDeltaEvent

from metaclaw.upstreams.presets import PRESETS
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.openai_dialects import CHAT, RESPONSES, Json, before, said_in
from tests.gateway.running import make_settings, read_turns, running_gateway
from tests.gateway.test_recall_and_identity import QUESTION, write_skill

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("dialects", [CHAT, RESPONSES], ids=["translated", "passed through"])
TOOL: Json = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
FUNCTION: Json = {"name": "look", "arguments": '{"at": "x"}'}
CALL: Json = {"id": "call_1", "type": "function", "function": FUNCTION}
CALL_ITEM: Json = {"type": "function_call", "id": "fc_up", "call_id": "call_1", "status": "completed", **FUNCTION}


@BOTH
async def test_a_plain_answer_reaches_the_client_and_the_journal(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects) as (_, gateway):
        answer = await gateway.client.responses.create(model="any", input="hello", instructions="be brief")
        [turn] = await gateway.turns()
    assert (answer.output_text, answer.status) == ("Hello from the fake model.", "completed")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 3)
    assert (turn.state, turn.kind, turn.model, turn.finish_reason) == ("done", "main", "any", "stop")
    told = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert await said_in(turn, tmp_path) == told
    assert turn.request == {"model": "any"}
    assert turn.answer == {"role": "assistant", "content": "Hello from the fake model."}
    assert turn.usage is not None
    assert turn.usage["total_tokens"] == 10


@BOTH
async def test_a_streamed_answer_reaches_the_client_and_the_journal(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects) as (_, gateway):
        async with gateway.client.responses.stream(model="any", input="hello") as stream:
            words = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            answer = await stream.get_final_response()
        [turn] = await gateway.turns()
    assert words == ["Hello ", "from ", "the ", "fake ", "model."]
    assert answer.output_text == "Hello from the fake model."
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 3)
    assert (turn.state, turn.finish_reason) == ("done", "stop")
    assert turn.answer == {"role": "assistant", "content": "Hello from the fake model."}


@BOTH
async def test_a_word_is_passed_on_before_the_next_one_is_said(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    """PITFALLS P1: the answer came in one piece once it was complete."""
    held = 2 if dialects == CHAT else 5
    async with before(tmp_path, dialects, lambda _: Answer(hold_after=held)) as (model, gateway):
        stream = await gateway.client.responses.create(model="any", input="hello", stream=True)
        async for event in stream:
            if isinstance(event, ResponseTextDeltaEvent):
                assert event.delta == "Hello "
                break
        model.go_on.set()
        assert [event.type async for event in stream][-1] == "response.completed"


@BOTH
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_tool_is_called_and_its_result_is_told(
    tmp_path: Path, dialects: tuple[str, ...], is_stream: bool
) -> None:
    def script(body: Json) -> Answer:
        if "found" in json.dumps(body):
            return Answer(text="It is x.")
        if dialects == RESPONSES:
            return Answer(message={"output": [CALL_ITEM]})
        message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        return Answer(message=message, finish_reason="tool_calls", events=_chat_call() if body.get("stream") else None)

    async def ask(gateway: Any, items: Any) -> Response:
        if not is_stream:
            return await gateway.client.responses.create(model="any", input=items, tools=[TOOL])
        async with gateway.client.responses.stream(model="any", input=items, tools=[TOOL]) as stream:
            return await stream.get_final_response()

    question: Json = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"}]}
    async with before(tmp_path, dialects, script) as (model, gateway):
        first = await ask(gateway, [question])
        [called] = [item for item in first.output if item.type == "function_call"]
        assert (called.name, called.arguments, called.call_id) == ("look", '{"at": "x"}', "call_1")
        result = {"type": "function_call_output", "call_id": "call_1", "output": "found x"}
        history = [question, *(item.model_dump(mode="json", exclude_none=True) for item in first.output), result]
        second = await ask(gateway, history)
        turns = await gateway.turns()
    assert second.output_text == "It is x."
    if dialects == CHAT:
        calling = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        told = {"role": "tool", "tool_call_id": "call_1", "content": "found x"}
        assert model.requests[-1]["messages"][1:] == [calling, told]
        assert model.requests[-1]["tools"][0]["function"]["name"] == "look"
    assert turns[0].answer == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert turns[0].exchange == turns[1].exchange


async def test_what_the_model_can_read_itself_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    body: Json = {
        "model": "any", "store": True, "previous_response_id": "resp_0", "prompt_cache_key": "k", "n": 1.0,
        "include": ["file_search_call.results"], "tools": [{"type": "web_search"}], "own": {"é": [1, None]},
        "input": [
            {"role": "user", "content": [{"type": "input_image", "file_id": "f", "prompt_cache_breakpoint": {}}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
            {"type": "item_reference", "id": "msg_1"},
        ],
    }  # fmt: skip
    raw = json.dumps(body, ensure_ascii=False, indent=1).encode()
    async with before(tmp_path, RESPONSES) as (model, gateway):
        async with gateway.post(raw, "/v1/responses") as response:
            assert response.status == 200
        [turn] = await gateway.turns()
    assert model.raw_requests == [raw]
    assert [message["role"] for message in await said_in(turn, tmp_path)] == ["user", "assistant"]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_who_leaves_the_history_to_the_provider_has_one_session(tmp_path: Path, is_stream: bool) -> None:
    """A request then holds nothing but what is new: the id of the response before says whose it is."""
    calls = {"output": [CALL_ITEM]}
    answers = iter([{"id": "resp_1", **calls}, {"id": "resp_2"}, {"id": "resp_3"}, {"id": "resp_4"}])
    result = {"type": "function_call_output", "call_id": "call_1", "output": "found x"}
    async with before(tmp_path, RESPONSES, lambda _: Answer(message=next(answers))) as (_, gateway):

        async def ask(given: Any, **more: Any) -> None:
            async with gateway.post(
                {"model": "any", "input": given, "stream": is_stream, **more}, "/v1/responses"
            ) as it:
                assert it.status == 200
                await it.read()

        await ask("Look there")
        await ask([result], previous_response_id="resp_1")
        await ask("Thanks", previous_response_id="resp_2")
        await ask("Thanks")  # somebody's first words
        turns = await gateway.turns()
    sessions = [turn.session for turn in turns]
    assert len(set(sessions[:3])) == 1
    assert sessions[3] != sessions[0]
    assert turns[0].exchange == turns[1].exchange != turns[2].exchange


async def test_a_response_of_another_agent_says_nothing_of_whose_a_turn_is(tmp_path: Path) -> None:
    answers = iter([{"id": "resp_1"}, {"id": "resp_2"}])
    async with before(tmp_path, RESPONSES, lambda _: Answer(message=next(answers))) as (_, gateway):
        for agent, more in (("a", {}), ("b", {"previous_response_id": "resp_1"})):
            async with gateway.post({"model": "any", "input": "hi", **more}, f"/agents/{agent}/v1/responses") as answer:
                assert answer.status == 200
        turns = await gateway.turns()
    assert turns[0].session != turns[1].session


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
async def test_a_conversation_that_the_provider_keeps_is_the_session(tmp_path: Path, conversation: Any) -> None:
    async with before(tmp_path, RESPONSES) as (_, gateway):
        for text in ("hi", "and again"):
            body = {"model": "any", "input": text, "conversation": conversation}
            async with gateway.post(body, "/v1/responses") as answer:
                assert answer.status == 200
        turns = await gateway.turns()
    assert [turn.session for turn in turns] == ["conv_1", "conv_1"]


async def test_the_bytes_of_the_models_own_stream_are_not_touched(tmp_path: Path) -> None:
    events = tuple(
        f"event: {kind}\r\ndata: {data}\r\n\r\n".encode()
        for kind, data in (
            ("response.created", '{"type":"response.created","response":{"id":"r","own":1}}'),
            ("response.output_text.delta", '{"type":"response.output_text.delta","delta":"hé","obfuscation":"x"}'),
            ("response.completed", '{"type": "response.completed","response":{"id":"r","output":[]}}'),
        )
    )
    async with before(tmp_path, RESPONSES, lambda _: Answer(events=events)) as (_, gateway):
        async with gateway.post({"model": "any", "input": "hi", "stream": True}, "/v1/responses") as response:
            assert await response.read() == b"".join(events)
        [turn] = await gateway.turns()
    assert (turn.state, turn.answer) == ("done", {"role": "assistant", "content": "hé"})


@BOTH
async def test_a_search_among_other_tools_is_left_out_for_a_chat_model_and_the_client_told(
    tmp_path: Path, dialects: tuple[str, ...]
) -> None:
    """Codex offers it with each request, whatever the model."""
    body = {"model": "any", "input": "hi", "tools": [TOOL, {"type": "web_search"}], "client_metadata": {"turn_id": "t"}}
    async with before(tmp_path, dialects) as (model, gateway), gateway.post(body, "/v1/responses") as response:
        assert response.status == 200
        told = response.headers.get("X-MetaClaw-Left-Out")
    kinds = [tool["type"] for tool in model.requests[0]["tools"]]
    if dialects == CHAT:
        assert (kinds, told) == (["function"], "web_search")
        assert "client_metadata" not in model.requests[0]
    else:
        assert (kinds, told) == (["function", "web_search"], None)


async def test_a_chat_model_gets_messages_that_its_template_takes(tmp_path: Path) -> None:
    """Codex sends instructions twice, and its pictures as the results of a tool."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    body: Json = {
        "model": "any", "instructions": "be brief",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "no sudo"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"}]},
            CALL_ITEM,
            {"type": "function_call_output", "call_id": "call_1", "output": [picture]},
        ],
    }  # fmt: skip
    async with before(tmp_path, CHAT) as (model, gateway):
        async with gateway.post(body, "/v1/responses") as response:
            assert response.status == 200
        [turn] = await gateway.turns()
    messages = model.requests[0]["messages"]
    assert messages[:2] == [{"role": "system", "content": "be brief\n\nno sudo"}, {"role": "user", "content": "look"}]
    assert messages[3] == {"role": "tool", "tool_call_id": "call_1", "content": ""}
    assert messages[4]["role"] == "user"
    assert messages[4]["content"][1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    roles = ["system", "system", "user", "assistant", "tool"]
    assert [message["role"] for message in await said_in(turn, tmp_path)] == roles, "kept as it was said"


async def test_a_chat_client_may_have_a_model_that_speaks_only_responses(tmp_path: Path) -> None:
    thought = {"type": "reasoning", "id": "rs_up", "summary": [{"type": "summary_text", "text": "hm"}]}
    spoken = [{"type": "output_text", "text": "So be it", "annotations": [], "logprobs": []}]
    message = {"id": "msg_up", "type": "message", "role": "assistant", "status": "completed", "content": spoken}
    script = lambda _: Answer(message={"output": [thought, message, CALL_ITEM]})  # noqa: E731
    messages: list[Any] = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    async with before(tmp_path, RESPONSES, script) as (model, gateway):
        plain = await gateway.client.chat.completions.create(model="any", messages=messages, max_tokens=9)
        async with gateway.client.chat.completions.stream(model="any", messages=messages) as stream:
            streamed = await stream.get_final_completion()
        turns = await gateway.turns()
    for answer in (plain, streamed):
        [choice] = answer.choices
        assert (choice.message.content, choice.finish_reason) == ("So be it", "tool_calls")
        assert choice.message.tool_calls is not None
        assert choice.message.tool_calls[0].function.arguments == '{"at": "x"}'
    assert model.requests[0]["max_output_tokens"] == 9
    assert model.requests[0]["store"] is False
    assert [turn.answer["reasoning_content"] for turn in turns if turn.answer] == ["hm", "hm"]


async def test_a_session_goes_on_with_a_model_that_checks_who_thought(tmp_path: Path) -> None:
    """The policy, or a fallback, answered first; the client sends all of it back."""
    thinks = Answer(message={"role": "assistant", "content": "4", "reasoning_content": "two and two"})
    spoken: list[Any] = [{"role": "user", "content": "2+2?"}]
    async with before(tmp_path / "a", CHAT, lambda _: thinks) as (_, gateway):
        answer = await gateway.client.responses.create(model="any", input=spoken)
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    spoken += [*(item.to_dict() for item in answer.output), {"role": "user", "content": "sure?"}]
    async with before(tmp_path / "b", RESPONSES) as (model, gateway):
        await gateway.client.responses.create(model="any", input=spoken)
    [request] = model.requests
    assert [item.get("type") for item in request["input"]] == [None, "message", None]


async def test_openai_gets_no_thinking_in_the_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses a reasoning item with content ("array too long"), as each one of another model's is."""
    history: list[Any] = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
        {"role": "user", "content": "sure?"},
    ]
    async with fake_llm() as model:
        monkeypatch.setitem(PRESETS, "openai", replace(PRESETS["openai"], base_url=model.url))
        llm = {"provider": "openai", "dialects": RESPONSES, "api_key": "k", "max_attempts": 1}
        async with running_gateway(make_settings(tmp_path, llm=llm)) as gateway:
            await gateway.client.chat.completions.create(model="any", messages=history)
    assert [item["role"] for item in model.requests[0]["input"]] == ["user", "assistant", "user"]


async def test_openai_gets_a_chat_that_another_model_answered_without_its_thinking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history: list[Any] = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
        {"role": "user", "content": "sure?"},
    ]
    async with fake_llm() as model:
        monkeypatch.setitem(PRESETS, "openai", replace(PRESETS["openai"], base_url=model.url))
        llm = {"provider": "openai", "api_key": "k", "max_attempts": 1}
        async with running_gateway(make_settings(tmp_path, llm=llm)) as gateway:
            await gateway.client.chat.completions.create(model="any", messages=history)
    assert model.requests[0]["messages"] == [history[0], {"role": "assistant", "content": "4"}, history[2]]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_length_limit_is_an_incomplete_response(tmp_path: Path, is_stream: bool) -> None:
    async with before(tmp_path, CHAT, lambda _: Answer(text="I was", finish_reason="length")) as (model, gateway):
        if is_stream:
            stream = await gateway.client.responses.create(model="any", input="hi", max_output_tokens=2, stream=True)
            last = [event async for event in stream][-1]
            assert last.type == "response.incomplete"
            answer = last.response
        else:
            answer = await gateway.client.responses.create(model="any", input="hi", max_output_tokens=2)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert model.requests[0]["max_tokens"] == 2


async def test_a_think_block_in_the_text_becomes_reasoning(tmp_path: Path) -> None:
    async with (
        before(tmp_path, CHAT, lambda _: Answer(text="<think>two and two</think>It is 4.")) as (_, gateway),
        gateway.client.responses.stream(model="any", input="2+2?") as stream,
    ):
        answer = await stream.get_final_response()
    assert answer.output_text == "It is 4."
    [reasoning] = [item for item in answer.output if item.type == "reasoning"]
    assert reasoning.content is not None
    assert reasoning.content[0].text == "two and two"


async def test_what_is_recalled_is_a_part_after_the_humans_words(tmp_path: Path) -> None:
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]
    async with before(tmp_path, RESPONSES) as (model, gateway):
        await gateway.client.responses.create(model="any", input=items, store=False)
    [sent] = model.requests
    first, block = sent["input"][0]["content"]
    assert first == {"type": "input_text", "text": QUESTION}
    assert block["type"] == "input_text"
    assert "Use the imperative." in block["text"]
    assert {key: value for key, value in sent.items() if key != "input"} == {"model": "any", "store": False}


async def test_what_a_chat_model_cannot_do_is_a_400_that_names_the_parameter(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT) as (model, gateway):
        with pytest.raises(BadRequestError, match="responses are not kept here") as refusal:
            await gateway.client.responses.create(model="any", input="hi", previous_response_id="resp_1")
        [turn] = await gateway.turns()
    assert refusal.value.param == "previous_response_id"
    assert model.requests == []
    assert (turn.state, turn.status) == ("failed", 400)


async def test_a_kept_response_is_not_found_and_the_error_says_why(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT) as (_, gateway):
        answer = await gateway.client.responses.create(model="any", input="hi", store=True)
        assert answer.model_extra is not None
        assert answer.model_extra["store"] is False
        with pytest.raises(NotFoundError, match="responses are not kept here"):
            await gateway.client.responses.retrieve(answer.id)
        with pytest.raises(NotFoundError, match="responses are not kept here"):
            await gateway.client.responses.delete(answer.id)
        with pytest.raises(NotFoundError, match="there is no /v1/responses/input_tokens here"):
            await gateway.client.responses.input_tokens.count(model="any", input="hi")


@BOTH
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refusal_of_the_model_keeps_its_status(
    tmp_path: Path, dialects: tuple[str, ...], is_stream: bool
) -> None:
    async with before(tmp_path, dialects, lambda _: Answer(status=429)) as (_, gateway):
        with pytest.raises(APIStatusError) as refusal:
            await gateway.client.responses.create(model="any", input="hi", stream=is_stream)
        [turn] = await gateway.turns()
    assert refusal.value.status_code == 429
    assert turn.state == "failed"


@BOTH
async def test_a_model_that_breaks_off_is_an_error_in_the_stream(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    breaking = Answer(break_after=3 if dialects == CHAT else 6)
    async with before(tmp_path, dialects, lambda _: breaking) as (_, gateway):
        async with gateway.post({"model": "any", "input": "hi", "stream": True}, "/v1/responses") as response:
            events = (await response.text()).strip().split("\n\n")
        [turn] = await gateway.turns()
    kinds = [event.split("\n", 1)[0] for event in events]
    assert kinds[-2:] == ["event: error", "event: response.failed"]
    assert turn.state == "failed"
    assert turn.answer is not None
    assert turn.answer["content"].startswith("Hello ")


async def test_the_sdk_raises_when_the_model_breaks_off(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT, lambda _: Answer(break_after=3)) as (_, gateway):
        with pytest.raises(APIError):
            async for _ in await gateway.client.responses.create(model="any", input="hi", stream=True):
                pass


async def test_a_failed_response_is_no_empty_answer_for_a_chat_client(tmp_path: Path) -> None:
    failed = {"status": "failed", "output": [], "error": {"code": "server_error", "message": "it broke"}}
    async with before(tmp_path, RESPONSES, lambda _: Answer(message=failed)) as (_, gateway):
        with pytest.raises(APIStatusError, match="it broke") as failure:
            await gateway.client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
    assert failure.value.status_code == 503


@BOTH
async def test_a_client_that_leaves_stops_the_model(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    held = 3 if dialects == CHAT else 6
    async with before(tmp_path, dialects, lambda _: Answer(hold_after=held)) as (model, gateway):
        stream = await gateway.client.responses.create(model="any", input="hi", stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        await model.was_left.wait()
    [turn] = await asyncio.to_thread(read_turns, tmp_path)
    assert turn.state == "cut"
    assert turn.answer is not None
    assert turn.answer["content"].startswith("Hello ")


def _chat_call() -> tuple[Json | bytes, ...]:
    def chunk(delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {"id": "c", "created": 1, "model": "any", "choices": [choice]}

    begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": '}}
    rest = {"index": 0, "function": {"arguments": '"x"}'}}
    return (
        chunk({"role": "assistant", "content": None}),
        chunk({"tool_calls": [begun]}),
        chunk({"tool_calls": [rest]}),
        chunk({}, "tool_calls"),
    )
