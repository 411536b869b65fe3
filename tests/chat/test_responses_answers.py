"""Plain answers between chat and the responses API, checked against the official SDK's types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from metaclaw.chat.responses.dialect import ResponsesDialect
from tests.chat.responses_material import ANSWER, TOOL, assistant_messages, completion

Json = dict[str, Any]
RESPONSES = ResponsesDialect()
REQUEST: Json = {"model": "m", "input": "hi"}


def response_of(message: Json, finish_reason: str = "stop", **request: Any) -> Json:
    return RESPONSES.answer_from_chat(completion(message, finish_reason), {**REQUEST, **request})


@given(ANSWER, st.lists(TOOL, max_size=2), st.sampled_from([None, "auto"]))
def test_an_answer_is_what_the_sdk_expects_and_comes_back_unchanged(
    message: Json, tools: list[Json], summary: str | None
) -> None:
    chat = completion(message, "tool_calls" if message.get("tool_calls") else "stop")
    sent = RESPONSES.from_chat({"messages": [{"role": "user", "content": "hi"}], "tools": tools})
    response = RESPONSES.answer_from_chat(chat, {**sent, "reasoning": {"summary": summary}})
    parsed = Response.model_validate(response, strict=True)
    assert parsed.output_text == (message["content"] or "")
    back = RESPONSES.answer_to_chat(response)
    assert {**back, "id": chat["id"]} == chat


@pytest.mark.parametrize(
    ("finish_reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_ended_says_why(finish_reason: str, why: str) -> None:
    response = response_of({"role": "assistant", "content": "I was going to"}, finish_reason)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": why}
    assert response["output"][0]["status"] == "incomplete"
    assert RESPONSES.answer_to_chat(response)["choices"][0]["finish_reason"] == finish_reason


def test_an_empty_answer_is_an_empty_message() -> None:
    response = response_of({"role": "assistant", "content": ""})
    assert [item["type"] for item in response["output"]] == ["message"]
    assert response["output"][0]["content"][0]["text"] == ""
    assert RESPONSES.answer_to_chat(response)["choices"][0]["message"] == {"role": "assistant", "content": ""}


def test_thinking_is_a_summary_for_whoever_asked_for_one_and_else_the_text_itself() -> None:
    message = {"role": "assistant", "content": "4", "reasoning_content": "two and two"}
    asked = response_of(message, reasoning={"summary": "auto"})["output"][0]
    assert asked["summary"] == [{"type": "summary_text", "text": "two and two"}]
    unasked = response_of(message)["output"][0]
    assert (unasked["summary"], unasked["content"]) == ([], [{"type": "reasoning_text", "text": "two and two"}])


def test_ids_differ_between_answers_and_fit_where_they_are_sent_back() -> None:
    message = {"role": "assistant", "content": "hi"}
    chat = completion(message, "stop")
    responses = [
        RESPONSES.answer_from_chat(chat, REQUEST),
        RESPONSES.answer_from_chat({**chat, "id": "x" * 300}, REQUEST),
        RESPONSES.answer_from_chat({**chat, "created": 1700000001}, REQUEST),
    ]
    ids = [identity for response in responses for identity in (response["id"], response["output"][0]["id"])]
    assert len(set(ids)) == 6
    assert max(map(len, ids)) <= 64


def test_a_call_without_an_id_gets_one() -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
    item = response_of({"role": "assistant", "content": None, "tool_calls": [call]})["output"][0]
    assert item["call_id"].startswith("call_")


def test_what_the_request_asked_for_is_told_back_and_nothing_is_said_to_be_kept() -> None:
    response = response_of({"role": "assistant", "content": "hi"}, instructions="brief", top_p=0.5, store=True)
    assert (response["instructions"], response["top_p"], response["store"]) == ("brief", 0.5, False)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["id", "output", "type", "role", "content", "text", "usage", "summary", "call_id", "status"]), inner
)))  # fmt: skip
def test_no_answer_is_too_strange_to_be_read(body: Any) -> None:
    RESPONSES.answer_to_chat(body if isinstance(body, dict) else {"output": body})


@given(assistant_messages(with_calls=True))
def test_several_messages_of_one_answer_are_joined_as_the_sdk_joins_them(message: Json) -> None:
    response = response_of({**message, "content": "One. "}, "tool_calls")
    second = response_of({"role": "assistant", "content": "Two."})["output"]
    both = {**response, "output": response["output"] + second}
    assert RESPONSES.answer_to_chat(both)["choices"][0]["message"]["content"] == "One. Two."
    assert Response.model_validate(both).output_text == "One. Two."
