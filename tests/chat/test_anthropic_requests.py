"""Requests of Anthropic's messages: what is read of them, and edits that leave the rest as it came."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from metaclaw.chat.anthropic.dialect import DIALECT
from metaclaw.chat.humans import human_indexes, human_text
from metaclaw.errors import InvalidRequestError
from tests.chat.anthropic_material import PIXEL, Json, assistant, call, image, request, result, text, use, user

BILLING = text("x-anthropic-billing-header: cc_version=2.1.328.5bd; cc_entrypoint=cli; cch=00000;")
CACHED = {"cache_control": {"type": "ephemeral"}}

TOOL_LOOP = request(
    user([text("<system-reminder>be brief</system-reminder>"), text("what is here?", **CACHED)]),
    assistant(
        [
            {"type": "thinking", "thinking": "I should look", "signature": "c2lnbmVk"},
            text("Let me "),
            text("look."),
            use("toolu_1", path="."),
            use("toolu_2", path="é"),
        ]
    ),
    user([result("toolu_1", "a.txt"), result("toolu_2", [text("none")], is_error=True), text("go on", **CACHED)]),
    system=[BILLING, text("You are a coder.", **CACHED)],
    metadata={"user_id": '{"session_id":"s"}'},
    context_management={"edits": []},
    tools=[{"name": "ls", "input_schema": {"type": "object"}, "eager_input_streaming": True}],
    stream=True,
)


def view(body: Json) -> list[Json]:
    return DIALECT.parse(body).messages


def test_a_tool_loop_reads_as_a_chat():
    assert view(TOOL_LOOP) == [
        {"role": "system", "content": [text("You are a coder.")]},
        user([text("<system-reminder>be brief</system-reminder>"), text("what is here?")]),
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "I should look",
            "tool_calls": [call("toolu_1", '{"path": "."}'), call("toolu_2", '{"path": "é"}')],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "a.txt"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": [text("Error:"), text("none")]},
        user([text("go on")]),
    ]


def test_the_rest_of_a_request_is_read_as_well():
    parsed = DIALECT.parse({**TOOL_LOOP, "temperature": 1})
    assert (parsed.dialect, parsed.model, parsed.is_stream) == ("anthropic.messages", "m", True)
    assert (parsed.temperature, parsed.num_answers) == (1.0, 1)
    assert parsed.body["context_management"] == {"edits": []}


def test_where_a_client_puts_its_cache_marker_changes_no_message():
    marked = request(user([text("hi", **CACHED), {**image(), **CACHED}, {"type": "unknown", "x": 1, **CACHED}]))
    plain = request(user([text("hi"), image(), {"type": "unknown", "x": 1}]))
    assert view(marked) == view(plain)


def test_the_billing_header_of_claude_code_is_no_prompt():
    assert view(request(user("hi"), system=[BILLING])) == [user("hi")]
    assert view(request(user("hi"), system="")) == [user("hi")]
    assert view(request(user("hi"), system="Be brief.")) == [{"role": "system", "content": "Be brief."}, user("hi")]


PDF = "data:application/pdf;base64,JVBERi0="


def test_images_and_documents_are_parts():
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    link = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    note = {"type": "document", "title": "Notes", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}
    assert view(request(user([image(), link, note, pdf]))) == [
        user(
            [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                text("Notes\n\nabc"),
                {"type": "file", "file": {"filename": "document.pdf", "file_data": PDF}},
            ]
        )
    ]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("broken", "Error: broken"),
        ("Error: broken", "Error: broken"),
        ("<tool_use_error>no file</tool_use_error>", "<tool_use_error>no file</tool_use_error>"),
        ("", "Error: "),
        ([], "Error: "),
        ([text("no")], [text("Error:"), text("no")]),
    ],
)
def test_a_failed_tool_is_said_to_have_failed(content: Any, shown: Any):
    assert view(request(user([result("t", content, is_error=True)])))[0]["content"] == shown
    assert view(request(user([result("t", content)])))[0]["content"] == (content or "")


def test_empty_content_is_content():
    assert view(request(user(""), assistant([]), user([]))) == [user(""), assistant(""), user([])]
    assert view(request(assistant([use("t")]))) == [{"role": "assistant", "content": None, "tool_calls": [call("t")]}]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [user(None)]}, "messages[0].content"),
        ({"messages": [user(["hi"])]}, "messages[0].content"),
        ({"system": 1}, "system"),
        ({"stream": "yes"}, "stream"),
        ({"model": 1}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
    ],
)
def test_a_malformed_request_is_refused_by_name(change: Json, param: str):
    with pytest.raises(InvalidRequestError) as refusal:
        DIALECT.parse({**request(user("hi")), **change})
    assert refusal.value.param == param


def edited(body: Json, **edits: Any) -> Json:
    before = copy.deepcopy(body)
    result = DIALECT.edited(DIALECT.parse(body), **{"blocks": {}, **edits})
    assert body == before, "the client's own body was changed"
    return result


def test_no_edit_is_no_change():
    assert edited(TOOL_LOOP) == TOOL_LOOP


def test_recalled_text_follows_the_humans_content_and_nothing_else_changes():
    human = human_indexes(view(TOOL_LOOP))[-1]
    assert human_text(view(TOOL_LOOP)[human]) == "go on"
    body = edited(TOOL_LOOP, blocks={1: "first", human: "second"})
    assert body["messages"][0]["content"] == [*TOOL_LOOP["messages"][0]["content"], text("first")]
    assert body["messages"][1] == TOOL_LOOP["messages"][1]
    assert body["messages"][2]["content"] == [*TOOL_LOOP["messages"][2]["content"], text("second")]
    assert {**body, "messages": None} == {**TOOL_LOOP, "messages": None}


def test_a_string_and_a_block_get_recalled_text_alike():
    """Clients send a message as a string now and as blocks later; the prompt's prefix must not change with that."""
    expected = [user([text("hi"), text("recalled")])]
    assert edited(request(user("hi")), blocks={0: "recalled"})["messages"] == expected
    assert edited(request(user([text("hi")])), blocks={0: "recalled"})["messages"] == expected


def test_dropped_messages_are_gone_and_the_others_are_what_they_were():
    body = edited(TOOL_LOOP, dropped=[1])
    assert body["messages"] == TOOL_LOOP["messages"][1:]
    assert edited(TOOL_LOOP, dropped=[2, 3, 4])["messages"] == [
        TOOL_LOOP["messages"][0],
        user([text("go on", **CACHED)]),
    ]
    assert edited(TOOL_LOOP, dropped=[4, 5])["messages"][-1] == user([result("toolu_1", "a.txt")])
    assert "system" not in edited(TOOL_LOOP, dropped=[0])


def test_text_and_dropping_go_together():
    body = edited(TOOL_LOOP, blocks={0: "more", 5: "recalled"}, dropped=[1, 2, 3, 4])
    assert body["messages"] == [user([text("go on", **CACHED), text("recalled")])]
    assert body["system"] == [*TOOL_LOOP["system"], text("more")]
