"""Tools that a client searches for (``tool_search``), before models that know functions alone, as Codex does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metaclaw.chat.dialects import RESPONSES
from metaclaw.chat.responses.tools import left_out_of
from metaclaw.chat.responses.whole import stream_of
from metaclaw.chat.sse import SseParser
from metaclaw.chat.stream_assembler import StreamAssembler

Json = dict[str, Any]
PARAMETERS: Json = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
SEARCH: Json = {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": PARAMETERS}
RUN: Json = {"type": "function", "name": "run", "parameters": PARAMETERS}
FOUND: Json = {
    "type": "namespace", "name": "mcp__mail", "description": "mail", "tools": [{**RUN, "defer_loading": True}]
}  # fmt: skip
REQUEST: Json = {"model": "m", "input": "hi", "tools": [RUN, SEARCH], "tool_choice": "auto"}


def output_of(request: Json, name: str, arguments: str, *, is_stream: bool) -> list[Json]:
    """The items of the answer in which a model calls ``name``."""
    call: Json = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    if not is_stream:
        choice = {"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
        return RESPONSES.answer_from_chat({"id": "c", "choices": [choice]}, request)["output"]
    sink = RESPONSES.sink(request)
    delta = {"tool_calls": [{"index": 0, **call}]}
    made = sink.add_chunk({"id": "c", "choices": [{"index": 0, "delta": delta}]}) + sink.finish()
    events = [json.loads(event.data or "") for event in SseParser().feed(made)]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]
    return done


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_model_searches_and_calls_what_was_found(is_stream: bool):
    tools = RESPONSES.to_chat(REQUEST)["tools"]
    assert [tool["function"]["name"] for tool in tools] == ["run", "tool_search"]
    assert tools[1]["function"] == {"name": "tool_search", "description": "Finds tools.", "parameters": PARAMETERS}
    searched = output_of(REQUEST, "tool_search", '{"query": "mail"}', is_stream=is_stream)[0]
    expected = {"type": "tool_search_call", "call_id": "c1", "execution": "client", "arguments": {"query": "mail"}}
    assert {key: searched[key] for key in expected} == expected

    found = {"type": "tool_search_output", "call_id": "c1", "execution": "client", "tools": [FOUND]}
    after = {**REQUEST, "input": [{"role": "user", "content": "hi"}, searched, found, searched, found]}
    chat = RESPONSES.to_chat(after)
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["run", "tool_search", "mcp__mail__run"]
    assert not any("defer_loading" in tool for tool in chat["tools"])
    call = chat["messages"][1]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("tool_search", {"query": "mail"})
    assert chat["messages"][2]["role"] == "tool"
    assert "mcp__mail__run" in chat["messages"][2]["content"]
    item = output_of(after, "mcp__mail__run", "{}", is_stream=is_stream)[0]
    assert (item["type"], item["namespace"], item["name"]) == ("function_call", "mcp__mail", "run")


def test_tools_that_are_added_on_the_way_can_be_called():
    added = {"type": "additional_tools", "role": "developer", "tools": [FOUND]}
    request = {**REQUEST, "input": [{"role": "user", "content": "hi"}, added]}
    chat = RESPONSES.to_chat(request)
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["run", "tool_search", "mcp__mail__run"]
    assert (chat["messages"][1]["role"], "mcp__mail__run" in chat["messages"][1]["content"]) == ("system", True)
    item = output_of(request, "mcp__mail__run", "{}", is_stream=False)[0]
    assert (item["type"], item["namespace"], item["name"]) == ("function_call", "mcp__mail", "run")


def test_a_search_that_the_provider_makes_is_left_out_where_the_model_is_told_of_all():
    request = {**REQUEST, "tools": [{**RUN, "defer_loading": True}, {"type": "tool_search"}]}
    assert [tool["function"]["name"] for tool in RESPONSES.to_chat(request)["tools"]] == ["run"]
    assert left_out_of(request) == ["tool_search"]
    assert left_out_of(REQUEST) == []


def test_a_search_of_a_model_that_knows_them_is_recorded_as_a_call_that_waits_for_its_result():
    item = {"type": "tool_search_call", "call_id": "c1", "execution": "client", "arguments": {"query": "mail"}}
    response = {"id": "r", "object": "response", "status": "completed", "output": [item], "model": "m"}
    whole = RESPONSES.answer_to_chat(response)["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    assembler, source = StreamAssembler(), RESPONSES.source()
    for event in SseParser().feed(stream_of(response) or b""):
        for chunk in source.add_event(event):
            assembler.add(chunk)
    streamed = assembler.answer().message
    assert streamed is not None
    assert streamed["tool_calls"] == whole["message"]["tool_calls"]
