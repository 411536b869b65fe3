"""What chat models refuse though OpenAI's API knows it."""

from __future__ import annotations

from typing import Any

import pytest

from metaclaw.chat.messages import text_of
from metaclaw.chat.plain_messages import plain_messages

Json = dict[str, Any]
PICTURE: Json = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def text(said: str) -> Json:
    return {"type": "text", "text": said}


def test_instructions_at_the_beginning_are_one_system_message_and_later_ones_join_the_users_words() -> None:
    """Qwen's template: "System message must be at the beginning"."""
    told = plain_messages(
        [
            {"role": "system", "content": "be brief"},
            {"role": "system", "content": [text("no sudo")]},
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "sudo is allowed"},
            {"role": "assistant", "content": "hello"},
            {"role": "system", "content": "be long"},
        ]
    )
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert told[0]["content"] == "be brief\n\nno sudo"
    assert told[1]["content"] == "hi\n\n<system-reminder>\nsudo is allowed\n</system-reminder>"
    assert told[3]["content"] == "<system-reminder>\nbe long\n</system-reminder>"


def test_text_alone_is_one_string() -> None:
    """DeepSeek: "invalid type: sequence, expected a string"."""
    assert plain_messages([{"role": "user", "content": [text("a"), text("b")]}])[0]["content"] == "a\n\nb"
    assert plain_messages([{"role": "user", "content": [text("a"), PICTURE]}])[0]["content"] == [text("a"), PICTURE]


def test_pictures_of_tools_go_to_the_user() -> None:
    """OpenAI: "Image URLs are only allowed for messages with role 'user'"."""
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}
    results = [
        {"role": "tool", "tool_call_id": "a", "content": [PICTURE]},
        {"role": "tool", "tool_call_id": "b", "content": [text("seen"), PICTURE]},
    ]
    told = plain_messages([{"role": "user", "content": "look"}, calls, *results])
    assert [(message["role"], message.get("content")) for message in told[2:4]] == [("tool", ""), ("tool", "seen")]
    assert [part["type"] for part in told[4]["content"]] == ["text", "image_url", "text", "image_url"]
    assert "call b" in text_of(told[4]["content"])


def test_who_speaks_while_tools_run_is_heard_after_their_results() -> None:
    """OpenAI: "tool messages must follow the tool_calls"; responses and Anthropic's messages let anybody in between."""
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}
    one, other = ({"role": "tool", "tool_call_id": uid, "content": uid} for uid in "ab")
    steer, note = {"role": "user", "content": "hurry"}, {"role": "system", "content": "be brief"}
    hello, done = {"role": "user", "content": "look"}, {"role": "assistant", "content": "done"}
    told = plain_messages([hello, calls, one, steer, note, other, done, steer])
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool", "user", "assistant", "user"]
    assert [message["content"] for message in told[2:4]] == ["a", "b"]
    assert text_of(told[4]["content"]).startswith("hurry")
    in_order = [hello, calls, one, other, steer, done, hello]
    assert plain_messages(in_order) == in_order


@pytest.mark.parametrize("content", [None, "", []])
def test_nothing_is_no_trouble(content: object) -> None:
    roles = ("system", "system", "user", "system", "tool", "assistant")
    for role in roles:
        told = plain_messages([{"role": each, "content": content, "tool_call_id": "a"} for each in (role, *roles)])
        assert told
        assert plain_messages(told) == told


def test_a_picture_among_instructions_is_not_lost() -> None:
    told = plain_messages(
        [{"role": "system", "content": "s"}, {"role": "system", "content": [text("as here"), PICTURE]}]
    )
    assert PICTURE in told[1]["content"]
