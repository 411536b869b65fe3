"""Requests for models that are strict about what they are sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metaclaw.chat.dialects import DIALECTS
from metaclaw.chat.fitting import fitted_for_others, strictly_openai, without_others_thinking


def test_a_claude_conversation_for_openai_holds_nothing_that_its_api_refuses() -> None:
    body: dict[str, Any] = {
        "model": "any",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "2 + 2?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Easy.", "signature": "c2lnbmVk"},
                    {"type": "text", "text": "4"},
                ],
            },
            {"role": "user", "content": "sure?"},
        ],
    }
    fitted = strictly_openai(DIALECTS["anthropic.messages"].to_chat(body))
    assert fitted["max_completion_tokens"] == 9
    assert "max_tokens" not in fitted
    keys = {key for message in fitted["messages"] for key in message}
    assert keys <= {"role", "content"}
    assert [message["role"] for message in fitted["messages"]] == ["user", "assistant", "user"]


def test_a_limit_that_has_its_name_of_today_stands() -> None:
    fitted = strictly_openai({"messages": [], "max_tokens": 9, "max_completion_tokens": 5})
    assert fitted == {"messages": [], "max_completion_tokens": 5}


def test_what_other_models_added_to_their_answers_is_taken_out_of_a_history_and_nothing_else() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    added = {"reasoning_content": "hm", "thinking_blocks": [{}], "reasoning_details": []}
    answer = {"role": "assistant", "content": None, "tool_calls": [call]}
    theirs = {**answer, **added, "tool_calls": [{**call, "extra_content": {"google": {}}}]}
    asked, told = {"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "a", "content": "x"}
    body = {"model": "m", "max_tokens": 5, "reasoning_effort": "low", "messages": [asked, theirs, told]}
    plain = {**body, "messages": [asked, answer, told]}
    assert without_others_thinking(body, json.dumps(body).encode()) == plain
    assert without_others_thinking(plain, json.dumps(plain).encode()) is plain


@pytest.mark.parametrize(("model", "name"), [("gemini-2.5-pro", "ls"), ("models/gemini-3-pro", "ls"), ("qwen3", None)])
def test_gemini_reads_at_a_result_which_tool_gave_it(model: str, name: str | None) -> None:
    """It refuses one without ("Name cannot be empty"); no other dialect says it there."""
    use = {"type": "tool_use", "id": "t", "name": "ls", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "a"}
    spoken = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [use]}]
    body = {"model": model, "max_tokens": 9, "messages": [*spoken, {"role": "user", "content": [result]}]}
    *_, told = fitted_for_others(DIALECTS["anthropic.messages"].to_chat(body), model)["messages"]
    assert told.get("name") == name
    assert (told["role"], told["tool_call_id"], told["content"]) == ("tool", "t", "a")


def test_what_is_for_openais_cache_goes_to_openai_alone() -> None:
    """Codex sends a key of it with each request, and Gemini, Groq and Cerebras refuse that (400)."""
    body = {"model": "m", "input": "hi", "prompt_cache_key": "k", "safety_identifier": "s", "some_key": 1}
    chat = DIALECTS["openai.responses"].to_chat(body)
    assert fitted_for_others(chat, "m").keys() == {"model", "messages", "some_key"}
    assert strictly_openai(chat)["prompt_cache_key"] == "k"


def test_what_openai_samples_by_anyhow_is_not_said() -> None:
    fitted = strictly_openai({"messages": [], "temperature": 1, "top_p": 1.0})
    assert fitted == {"messages": []}
    assert strictly_openai({"messages": [], "temperature": 0.2})["temperature"] == 0.2


MARK = {"cache_control": {"type": "ephemeral"}}


def test_claude_by_a_router_keeps_the_conversation_in_its_cache() -> None:
    """Without a mark OpenRouter's Claude charges an agent's whole history at each step."""
    use, result = (
        {"type": "tool_use", "id": "t", "name": "ls", "input": {}},
        {"type": "tool_result", "tool_use_id": "t"},
    )
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [use]}]
    body = {"model": "m", "max_tokens": 9, "system": "You", "messages": said}
    body["messages"] = [*said, {"role": "user", "content": [{**result, "content": "a.txt"}]}]
    chat = DIALECTS["anthropic.messages"].to_chat(body)
    first, *between, last = fitted_for_others(chat, "anthropic/claude-sonnet-4.5")["messages"]
    assert first == {"role": "system", "content": [{"type": "text", "text": "You", **MARK}]}
    assert last["content"] == [{"type": "text", "text": "a.txt", **MARK}]
    assert between == chat["messages"][1:-1]
    assert fitted_for_others(chat, "openai/gpt-5") == chat


@pytest.mark.parametrize(
    "said",
    [
        [{"role": "system", "content": "You"}, {"role": "user", "content": "once"}],  # nobody would read it again
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "t", "content": ""}],
    ],
)
def test_what_is_not_worth_a_mark_or_cannot_have_one_has_none(said: list[dict[str, Any]]) -> None:
    assert fitted_for_others({"messages": said}, "anthropic/claude-sonnet-4.5") == {"messages": said}
    nothing: dict[str, Any] = {"messages": [], "tools": [{"type": "function"}]}
    assert fitted_for_others(nothing, "anthropic/claude-sonnet-4.5") == nothing


def test_an_image_at_the_end_leaves_the_mark_to_the_text_before_it() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    seen = {"role": "user", "content": [{"type": "text", "text": "c"}, image]}
    *_, last = fitted_for_others({"messages": [*said, seen]}, "anthropic/claude-sonnet-4.5")["messages"]
    assert last["content"] == [{"type": "text", "text": "c", **MARK}, image]
