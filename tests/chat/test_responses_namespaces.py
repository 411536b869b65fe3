"""Functions in namespaces, and a search of the web among them: what Codex sends with each request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metaclaw.chat.dialects import RESPONSES
from metaclaw.chat.sse import SseParser
from metaclaw.errors import InvalidRequestError

Json = dict[str, Any]
PARAMETERS: Json = {"type": "object", "properties": {}}
RUN: Json = {"type": "function", "name": "run", "parameters": PARAMETERS, "strict": False}
LONG = "a_tool_whose_name_is_so_long_that_no_model_takes_it"
DOCS: Json = {
    "type": "namespace", "name": "mcp__docs__", "description": "the docs",
    "tools": [{**RUN, "description": "a page"}, {**RUN, "name": LONG}],
}  # fmt: skip
AGENTS: Json = {"type": "namespace", "name": "agents", "tools": [RUN, {**RUN, "name": LONG}]}
SEARCH: Json = {"type": "web_search", "external_web_access": False}
REQUEST: Json = {"model": "m", "input": "hi", "tools": [RUN, DOCS, AGENTS, SEARCH], "tool_choice": "auto"}


def names_of(request: Json) -> list[str]:
    return [tool["function"]["name"] for tool in RESPONSES.to_chat(request)["tools"]]


def test_each_function_has_a_name_of_its_own_that_chat_takes() -> None:
    names = names_of(REQUEST)
    assert names[:2] == ["run", "mcp__docs__run"]
    assert names[3] == "agents__run"
    assert len(set(names)) == len(names) == 5
    assert all(len(name) <= 64 for name in names)


def test_what_is_said_of_a_namespace_is_said_once() -> None:
    """How an MCP server is used is said of its namespace alone."""
    told = [tool["function"].get("description") for tool in RESPONSES.to_chat(REQUEST)["tools"]]
    assert told == [None, "a page\n\nOf all tools of mcp__docs: the docs", None, None, None]
    bare = {**DOCS, "tools": [RUN]}
    [tool] = RESPONSES.to_chat({**REQUEST, "tools": [bare]})["tools"]
    assert tool["function"]["description"] == "Of all tools of mcp__docs: the docs"
    assert DOCS["tools"][0]["description"] == "a page"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_call_comes_back_as_the_function_of_its_namespace_and_is_told_again_as_it_was(is_stream: bool) -> None:
    names = names_of(REQUEST)
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": n, "arguments": "{}"}} for n in names]
    if is_stream:
        sink = RESPONSES.sink(REQUEST)
        out = b"".join(
            sink.add_chunk({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": place, **call}]}}]})
            for place, call in enumerate(calls)
        )
        events = [json.loads(event.data or "") for event in SseParser().feed(out + sink.finish())]
        output = events[-1]["response"]["output"]
        assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == output
    else:
        chat = {"id": "c", "choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
        output = RESPONSES.answer_from_chat(chat, REQUEST)["output"]
    called = [(item.get("namespace"), item["name"]) for item in output]
    assert called == [(None, "run"), ("mcp__docs__", "run"), ("mcp__docs__", LONG), ("agents", "run"), ("agents", LONG)]
    again = RESPONSES.to_chat({**REQUEST, "input": [{"role": "user", "content": "hi"}, *output]})
    assert [call["function"]["name"] for call in again["messages"][-1]["tool_calls"]] == names


def test_a_choice_of_a_function_in_a_namespace_is_one() -> None:
    chosen = {"type": "function", "name": "run", "namespace": "agents"}
    chat = RESPONSES.to_chat({**REQUEST, "tools": [AGENTS], "tool_choice": chosen})
    assert chat["tool_choice"]["function"]["name"] == "agents__run"


@pytest.mark.parametrize(
    "request_",
    [
        {**REQUEST, "tools": [SEARCH]},
        {**REQUEST, "tool_choice": "required"},
        {**REQUEST, "tool_choice": {"type": "web_search"}},
        {**REQUEST, "tools": [RUN, {"type": "file_search"}]},
        {**REQUEST, "tools": [{**AGENTS, "tools": [{"type": "mcp", "name": "x"}]}]},
    ],
)
def test_what_a_client_relies_on_is_refused(request_: Json) -> None:
    with pytest.raises(InvalidRequestError):
        RESPONSES.to_chat(request_)
