"""Requests of the responses API, and chat requests for models that speak only that."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given

from metaclaw.chat.anthropic.dialect import DIALECT as ANTHROPIC
from metaclaw.chat.anthropic.whole import stream_of
from metaclaw.chat.responses.dialect import ResponsesDialect
from metaclaw.chat.responses.reasoning import without_own_reasoning
from metaclaw.chat.sse import SseParser
from metaclaw.errors import InvalidRequestError
from tests.chat.responses_material import chat_requests

Json = dict[str, Any]
RESPONSES = ResponsesDialect()


def view(**body: Any) -> list[Json]:
    return RESPONSES.parse({"model": "m", **body}).messages


def said(role: str, *texts: str) -> Json:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text} for text in texts]}


def called(call_id: str, name: str = "look") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}", "id": f"fc_{call_id}"}


def result(call_id: str, output: Any = "found") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


@given(chat_requests())
def test_a_chat_request_comes_back_from_the_responses_api_unchanged(request: Json) -> None:
    before = copy.deepcopy(request)
    assert RESPONSES.to_chat(RESPONSES.from_chat(request)) == request
    assert request == before


@given(chat_requests())
def test_what_is_sent_to_a_responses_model_is_seen_as_the_conversation_that_it_was(request: Json) -> None:
    assert RESPONSES.parse(RESPONSES.from_chat(request)).messages == request["messages"]


def test_a_string_is_what_the_user_says_under_the_instructions() -> None:
    assert view(input="hi", instructions="be brief") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


def test_openclaws_system_prompt_is_an_item_of_the_input() -> None:
    assert view(input=[said("system", "stable", "dynamic"), said("user", "hi")], store=False) == [
        {"role": "system", "content": [{"type": "text", "text": "stable"}, {"type": "text", "text": "dynamic"}]},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ]


def test_a_developer_is_the_system_and_a_message_needs_no_type() -> None:
    messages = view(input=[{"role": "developer", "content": "rules"}, {"role": "user", "content": "hi"}])
    assert messages == [{"role": "system", "content": "rules"}, {"role": "user", "content": "hi"}]


def test_what_a_model_thought_said_and_called_is_one_message() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    items = [
        said("user", "go"),
        thought,
        said("assistant", "I look."),
        called("a"),
        called("b"),
        result("b"),
        result("a"),
    ]
    calls = [{"id": key, "type": "function", "function": {"name": "look", "arguments": "{}"}} for key in "ab"]
    assert view(input=items)[1:] == [
        {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "b", "content": "found"},
        {"role": "tool", "tool_call_id": "a", "content": "found"},
    ]


def test_calls_before_and_after_a_result_are_two_messages() -> None:
    messages = view(input=[said("user", "go"), called("a"), result("a"), called("b"), result("b")])
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "tool"]


def test_a_result_may_hold_parts() -> None:
    parts = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "data:x", "detail": "low"}]
    assert view(input=[said("user", "go"), called("a"), result("a", parts)])[-1]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
    ]


def test_a_request_that_can_only_pass_through_has_a_conversation_too() -> None:
    items: list[Json] = [
        said("user", "search"),
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        said("assistant", "Here."),
        {"type": "item_reference", "id": "msg_9"},
        {"type": "mystery_output", "call_id": "z", "output": "result"},
        {"type": "message", "role": "user", "content": [{"type": "hologram"}, {"type": "input_text", "text": "more"}]},
    ]
    assert view(input=items) == [
        {"role": "user", "content": [{"type": "text", "text": "search"}]},
        {"role": "assistant", "content": "Here."},
        {"role": "tool", "tool_call_id": "z", "content": "result"},
        {"role": "user", "content": [{"type": "text", "text": "more"}]},
    ]


def test_a_request_that_goes_on_from_a_kept_response_needs_no_input() -> None:
    assert view(previous_response_id="resp_1") == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"type": "message", "content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": 1, "content": "hi"}]}, "input[0].role"),
        ({"input": "hi", "instructions": ["be brief"]}, "instructions"),
        ({"input": "hi", "stream": "yes"}, "stream"),
        ({"input": "hi", "temperature": True}, "temperature"),
        ({"input": "hi", "model": 3}, "model"),
    ],
)
def test_what_we_rely_on_is_checked(body: Json, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        RESPONSES.parse(body)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0]"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0]"),
        ({"input": [{"type": "local_shell_call", "call_id": "a", "action": {}}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
            "input[0].content[0].file_url",
        ),
        ({"input": [{"role": "user", "content": [{"type": "hologram"}]}]}, "input[0].content[0]"),
    ],
)
def test_what_chat_cannot_say_is_refused_by_name(extra: Json, param: str) -> None:
    body = {"model": "m", "input": "hi", **extra}
    RESPONSES.parse(body)  # a model that speaks it may have it
    with pytest.raises(InvalidRequestError) as refusal:
        RESPONSES.to_chat(body)
    assert refusal.value.param == param


def test_what_asks_for_nothing_is_no_reason_to_refuse() -> None:
    body = {
        "model": "m", "input": "hi", "store": True, "background": False, "truncation": "disabled", "include": [],
        "previous_response_id": None, "stream_options": {"include_obfuscation": False}, "reasoning": {"effort": None},
        "text": {"format": {"type": "text"}}, "metadata": None,
    }  # fmt: skip
    assert RESPONSES.to_chat(body) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_a_choice_among_no_tools_is_left_out() -> None:
    """Codex compacts so, and chat models refuse it: OpenAI's, and vLLM."""
    body = {"model": "m", "input": "hi", "tools": [], "tool_choice": "auto", "parallel_tool_calls": False}
    assert RESPONSES.to_chat(body) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert RESPONSES.to_chat({**body, "tool_choice": "required"})["tool_choice"] == "required"


@pytest.mark.parametrize("kind", ["additional_tools", "configuration_update", "compaction_trigger"])
def test_what_a_developer_sets_on_the_way_is_no_answer(kind: str) -> None:
    """Nothing that continued such a conversation was known to: it began with an answer that nobody had given."""
    spoken = view(input=[said("user", "hi"), {"type": kind, "role": "developer"}, said("assistant", "Hello.")])
    assert [message["role"] for message in spoken] == ["user", "system", "assistant"]
    assert spoken[-1]["content"] == "Hello."


def test_leave_that_a_person_gave_is_no_answer() -> None:
    request = {"type": "mcp_approval_request", "id": "r"}
    spoken = view(input=[said("user", "hi"), request, {"type": "mcp_approval_response", "approval_request_id": "r"}])
    assert [message["role"] for message in spoken] == ["user", "assistant", "tool"]


def test_a_refusal_to_go_on_says_what_to_send_instead() -> None:
    with pytest.raises(InvalidRequestError, match="send the whole history in 'input'"):
        RESPONSES.to_chat({"model": "m", "input": "hi", "previous_response_id": "resp_1"})


def test_a_stream_asks_the_chat_model_for_its_usage() -> None:
    chat = RESPONSES.to_chat({"model": "m", "input": "hi", "stream": True})
    assert chat["stream_options"] == {"include_usage": True}


def test_a_chat_model_that_is_not_told_of_a_strict_schema_need_not_keep_one() -> None:
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    chat = RESPONSES.to_chat({"model": "m", "input": "hi", "tools": [tool]})
    function = {"name": "look", "parameters": {"type": "object"}}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert RESPONSES.from_chat(chat)["tools"] == [tool]


def test_a_responses_model_is_told_not_to_keep_what_it_answers() -> None:
    assert RESPONSES.from_chat({"model": "m", "messages": [{"role": "user", "content": "hi"}]})["store"] is False


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"n": 2}, "n"),
        ({"stop": ["END"]}, "stop"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {"name": "patch"}}]}, "tools[0]"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "name": "bob", "content": "x"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "assistant", "content": "x", "name": "bob"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_the_responses_api_cannot_say_is_refused_by_name(extra: Json, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        RESPONSES.from_chat({"model": "m", "messages": [{"role": "user", "content": "hi"}], **extra})
    assert refusal.value.param == param


def test_what_asks_a_responses_model_for_nothing_is_no_reason_to_refuse() -> None:
    harmless = {
        "n": 1,
        "stop": None,
        "presence_penalty": 0,
        "logprobs": False,
        "stream_options": {"include_usage": True},
    }
    request = RESPONSES.from_chat({"model": "m", "messages": [{"role": "user", "content": "hi"}], **harmless})
    item = {"type": "message", "role": "user", "content": "hi"}
    assert request == {"model": "m", "input": [item], "store": False}


def edited(body: Json, blocks: dict[int, str], dropped: tuple[int, ...] = ()) -> Json:
    before = copy.deepcopy(body)
    result = RESPONSES.edited(RESPONSES.parse(body), blocks=blocks, dropped=dropped)
    assert body == before
    return result


def test_what_is_recalled_follows_a_string() -> None:
    assert edited({"input": "hi", "store": True}, {0: "block"}) == {"input": "hi\n\nblock", "store": True}


def test_what_is_recalled_is_a_part_after_the_humans_own() -> None:
    body = {
        "instructions": "brief",
        "input": [said("user", "one"), said("assistant", "yes"), said("user", "two")],
        "x": 1,
    }
    assert edited(body, {1: "block", 3: "other"}) == {
        "instructions": "brief",
        "input": [said("user", "one", "block"), said("assistant", "yes"), said("user", "two", "other")],
        "x": 1,
    }


def test_what_is_recalled_follows_a_message_that_is_a_string() -> None:
    body = {"input": [{"role": "user", "content": "hi"}]}
    assert edited(body, {0: "block"}) == {"input": [{"role": "user", "content": "hi\n\nblock"}]}


def test_a_dropped_message_takes_all_of_its_items_with_it() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    searched = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    old = [said("user", "one"), thought, searched, said("assistant", "I look."), called("a"), result("a")]
    body = {"instructions": "brief", "input": [*old, said("assistant", "done"), said("user", "two")]}
    assert edited(body, {5: "block"}, dropped=(1, 2, 3, 4)) == {
        "instructions": "brief",
        "input": [said("user", "two", "block")],
    }


def test_what_another_provider_encrypted_is_left_out_and_the_session_goes_on() -> None:
    """Codex keeps nothing else of it: a fallback, or the policy after an outage, refused its history for ever."""
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    chat = RESPONSES.to_chat({"model": "m", "input": [said("user", "one"), sealed, called("a"), result("a")]})
    assert [message["role"] for message in chat["messages"]] == ["user", "assistant", "tool"]
    assert "reasoning_content" not in chat["messages"][1]


@pytest.mark.parametrize("include", [["reasoning.encrypted_content"], []])
@pytest.mark.parametrize("summary", ["auto", None])
def test_thinking_that_we_gave_goes_to_no_model_that_speaks_responses(include: list[str], summary: str | None) -> None:
    """OpenAI refuses it: it finds no such item, or cannot decrypt it."""
    request = {"model": "m", "input": "hi", "include": include, "reasoning": {"summary": summary}}
    message = {"role": "assistant", "content": "4", "reasoning_content": "two and two"}
    answer = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    theirs = {"type": "reasoning", "id": "rs_0123", "summary": [], "encrypted_content": "gAAA"}
    own, *rest = RESPONSES.answer_from_chat(answer, request)["output"]
    body = {"model": "m", "input": [said("user", "2+2?"), own, *rest, theirs, said("user", "sure?")]}
    kept = {"model": "m", "input": [said("user", "2+2?"), *rest, theirs, said("user", "sure?")]}
    assert without_own_reasoning(body, json.dumps(body).encode()) == kept
    assert without_own_reasoning(kept, json.dumps(kept).encode()) is kept


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "c2VjcmV0"}


@pytest.mark.parametrize("blocks", [[THOUGHT, REDACTED], [REDACTED], [{**THOUGHT, "thinking": ""}]])
@pytest.mark.parametrize("summary", ["auto", None])
@pytest.mark.parametrize("is_stream", [False, True])
def test_anthropics_sealed_thinking_comes_back_to_it(blocks: list[Json], summary: str | None, is_stream: bool) -> None:
    """Codex before Claude: within a loop of tools it goes on thinking where it was."""
    use = {"type": "tool_use", "id": "t", "name": "ls", "input": {}}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [*blocks, use]}
    answer |= {"stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}}
    request = {"model": "m", "include": ["reasoning.encrypted_content"], "reasoning": {"summary": summary}}
    if is_stream:
        source, sink, made = ANTHROPIC.source(), RESPONSES.sink(request), b""
        for event in SseParser().feed(stream_of(answer) or b""):
            made += b"".join(map(sink.add_chunk, source.add_event(event)))
        events = SseParser().feed(made + sink.finish())
        output = json.loads(events[-1].data or "")["response"]["output"]
    else:
        output = RESPONSES.answer_from_chat(ANTHROPIC.answer_to_chat(answer), request)["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    result = {"type": "function_call_output", "call_id": "t", "output": "a"}
    body = {**request, "input": [said("user", "list"), *output, result]}
    assert ANTHROPIC.from_chat(RESPONSES.to_chat(body))["messages"][1]["content"] == [*blocks, use]
    assert not any("thinking_blocks" in message for message in RESPONSES.parse(body).messages)
    assert [item.get("type") for item in without_own_reasoning(body)["input"]][1] == "function_call"


@pytest.mark.parametrize("sealed", ["!", "bm90IGpzb24=", "e30="])
def test_what_a_client_made_of_our_seal_is_no_thinking(sealed: str) -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": f"metaclaw:blocks:{sealed}"}
    messages = RESPONSES.to_chat({"model": "m", "input": [item, said("assistant", "4")]})["messages"]
    assert messages == [{"role": "assistant", "content": "4"}]


def test_our_sealed_thinking_is_read_back_by_whichever_field_a_client_keeps() -> None:
    request = {"model": "m", "input": "hi", "include": ["reasoning.encrypted_content"]}
    message = {"role": "assistant", "content": "4", "reasoning_content": "two and two"}
    answer = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    item = RESPONSES.answer_from_chat(answer, request)["output"][0]
    sealed = {key: item[key] for key in ("type", "id", "encrypted_content")} | {"summary": []}
    for kept in (item, sealed):
        again = RESPONSES.to_chat({"model": "m", "input": [kept, said("assistant", "4"), said("user", "sure?")]})
        assert again["messages"][0] == message
