"""Tools that take free text (``custom``), before models that know functions alone: Codex's ``apply_patch``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.dialects import RESPONSES
from metaclaw.chat.responses.whole import stream_of
from metaclaw.chat.sse import SseParser
from metaclaw.chat.stream_assembler import StreamAssembler

Json = dict[str, Any]
PATCH = '*** Begin Patch\n*** Update File: "a".py\n-\tx = "1"\n+\tx = "é\\n"\n*** End Patch\n'
GRAMMAR = "start: begin_patch hunk+ end_patch"
TOOL: Json = {
    "type": "custom", "name": "apply_patch", "description": "Edits files. This is FREEFORM, so do not wrap it in JSON.",
    "format": {"type": "grammar", "syntax": "lark", "definition": GRAMMAR},
}  # fmt: skip
SPACE: Json = {"type": "namespace", "name": "files", "tools": [TOOL]}
REQUEST: Json = {"model": "m", "input": "hi", "tools": [TOOL, SPACE], "tool_choice": "auto"}


def called(*arguments: str, name: str = "apply_patch", reason: str = "tool_calls", is_stream: bool = False) -> Json:
    """The response to a model's call, its arguments in so many pieces."""
    if not is_stream:
        calls = [{"id": "c1", "type": "function", "function": {"name": name, "arguments": "".join(arguments)}}]
        choice = {"index": 0, "message": {"tool_calls": calls}, "finish_reason": reason}
        return RESPONSES.answer_from_chat({"id": "c", "choices": [choice]}, REQUEST)
    sink, made = RESPONSES.sink(REQUEST), b""
    for index, piece in enumerate(["", *arguments]):
        call: Json = {"index": 0, "function": {"arguments": piece}}
        if index == 0:
            call |= {"id": "c1", "function": {"name": name, "arguments": ""}}
        made += sink.add_chunk({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    made += sink.add_chunk({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    events = [json.loads(event.data or "") for event in SseParser().feed(made + sink.finish())]
    told = "".join(event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta")
    output = events[-1]["response"]["output"]
    assert told == output[0]["input"]
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == output
    assert not any("function_call" in event["type"] for event in events)
    return events[-1]["response"]


def test_the_model_gets_a_function_with_one_string_and_is_told_of_the_grammar():
    function = RESPONSES.to_chat(REQUEST)["tools"][0]["function"]
    assert function["name"] == "apply_patch"
    assert function["parameters"]["required"] == list(function["parameters"]["properties"]) == ["input"]
    assert function["parameters"]["properties"]["input"]["type"] == "string"
    assert function["description"].startswith(TOOL["description"])
    assert GRAMMAR in function["description"]
    assert RESPONSES.to_chat(REQUEST)["tools"][1]["function"]["name"] == "files__apply_patch"


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("name", ["apply_patch", "files__apply_patch"])
def test_a_call_comes_back_as_free_text_and_is_told_again_with_its_result(is_stream: bool, name: str):
    arguments = json.dumps({"input": PATCH})
    response = called(arguments[:30], arguments[30:], name=name, is_stream=is_stream)
    item = response["output"][0]
    assert (item["type"], item["name"], item["call_id"]) == ("custom_tool_call", "apply_patch", "c1")
    assert item.get("namespace") == ("files" if "__" in name else None)
    assert item["input"] == PATCH
    assert item["id"].startswith("ctc_")
    done = {"type": "custom_tool_call_output", "call_id": "c1", "output": "Success"}
    chat = RESPONSES.to_chat({**REQUEST, "input": [{"role": "user", "content": "hi"}, item, done]})
    call = chat["messages"][1]["tool_calls"][0]
    assert call["function"]["name"] == name
    assert json.loads(call["function"]["arguments"]) == {"input": PATCH}
    assert chat["messages"][2] == {"role": "tool", "tool_call_id": "c1", "content": "Success"}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("arguments", [PATCH, '{"patch": "x"}', '["x"]', '{"input": 3}', ""])
def test_what_a_model_gives_in_another_form_is_handed_on_as_it_came(is_stream: bool, arguments: str):
    assert called(arguments, is_stream=is_stream)["output"][0]["input"] == arguments


@pytest.mark.parametrize("is_stream", [False, True])
def test_half_of_a_text_looks_like_no_whole_one(is_stream: bool):
    response = called(json.dumps({"input": PATCH})[:-4], reason="length", is_stream=is_stream)
    assert response["status"] == response["output"][0]["status"] == "incomplete"
    assert not response["output"][0]["input"].startswith("*** Begin")


@given(st.text(max_size=60))
def test_any_text_goes_there_and_back(text: str):
    item = {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": text}
    chat = RESPONSES.to_chat({**REQUEST, "input": [{"role": "user", "content": "hi"}, item]})
    arguments = chat["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert called(arguments)["output"][0]["input"] == text


def test_a_choice_of_one_is_one():
    chat = RESPONSES.to_chat({**REQUEST, "tool_choice": {"type": "custom", "name": "apply_patch"}})
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "apply_patch"}}


def test_a_call_of_a_model_that_has_such_tools_is_recorded_whole_and_streamed_alike():
    """The answer to a client of responses is passed on as it came; what is kept of it is a chat answer."""
    item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1", "name": "apply_patch", "input": PATCH}
    response = {"id": "r", "object": "response", "status": "completed", "output": [item], "model": "m"}
    whole = RESPONSES.answer_to_chat(response)["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    assembler, source = StreamAssembler(), RESPONSES.source()
    for event in SseParser().feed(stream_of(response) or b""):
        for chunk in source.add_event(event):
            assembler.add(chunk)
    streamed = assembler.answer()
    assert streamed.finish_reason == "tool_calls"
    assert streamed.message is not None
    assert streamed.message["tool_calls"] == whole["message"]["tool_calls"]
