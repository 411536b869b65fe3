"""Efforts before Claude's models that know budgets of thinking alone, or none."""

from __future__ import annotations

from typing import Any

import pytest

from metaclaw.chat.anthropic.older_models import fitted_for_claude
from metaclaw.chat.dialects import ANTHROPIC

HELLO: Any = [{"role": "user", "content": "hello"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
LOOP: Any = [
    *HELLO,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "a tree"},
]


def asked(model: str, **more: Any) -> dict[str, Any]:
    chat = {"model": model, "messages": HELLO, "max_completion_tokens": 60_000, "reasoning_effort": "high", **more}
    return fitted_for_claude(ANTHROPIC.from_chat(chat), model)


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-6", "claude-sonnet-4.6", "claude-opus-4-10", "anthropic/claude-opus-5", "claude-mythos", "my-own"],
)
def test_what_is_new_or_unknown_decides_itself(model: str):
    body = asked(model)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})


@pytest.mark.parametrize(
    "model",
    [
        "claude-sonnet-4-5-20250929", "claude-haiku-4-5", "claude-opus-4-5", "anthropic/claude-opus-4.1",
        "claude-opus-4-20250514", "us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-3-7-sonnet-latest",
        "anthropic/claude-3.7-sonnet",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("effort", "budget"), [("minimal", 2048), ("low", 2048), ("medium", 8192), ("high", 24_576)])
def test_models_before_4_6_get_a_budget(model: str, effort: str, budget: int):
    body = asked(model, reasoning_effort=effort)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert "output_config" not in body


@pytest.mark.parametrize("model", ["claude-3-5-sonnet-20241022", "claude-3-5-haiku-latest", "claude-3-opus-20240229"])
def test_models_that_do_not_think_are_not_asked_to(model: str):
    assert {"thinking", "output_config"}.isdisjoint(asked(model))


def test_a_budget_leaves_half_of_the_answer_and_is_none_where_that_is_too_little():
    assert asked("claude-sonnet-4-5", max_completion_tokens=4000)["thinking"]["budget_tokens"] == 2000
    for limit in (2000, "many", True):  # what is no number is the model's to refuse
        assert "thinking" not in asked("claude-sonnet-4-5", max_completion_tokens=limit)


def test_a_loop_that_began_without_thinking_goes_on_without_and_the_next_message_thinks_again():
    assert "thinking" not in asked("claude-sonnet-4-5", messages=LOOP)
    after = [*LOOP, {"role": "assistant", "content": "a tree"}, *HELLO]
    assert asked("claude-sonnet-4-5", messages=after)["thinking"]["type"] == "enabled"


def test_a_loop_that_began_with_thinking_goes_on_with_it():
    body = ANTHROPIC.from_chat({"model": "m", "messages": LOOP, "reasoning_effort": "high", "max_tokens": 9000})
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    answer = body["messages"][1]
    answer["content"] = [thought, *answer["content"]]
    assert fitted_for_claude(body, "claude-haiku-4-5")["thinking"]["budget_tokens"] == 4500


def test_a_schema_and_no_thinking_stay_as_they_are():
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    assert asked("claude-sonnet-4-5", response_format=schema)["output_config"]["format"]["type"] == "json_schema"
    assert asked("claude-sonnet-4-5", reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert "thinking" not in asked("claude-sonnet-4-5", reasoning_effort=None)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
@pytest.mark.parametrize("model", ["claude-opus-5", "claude-sonnet-4-5"])
def test_who_must_call_a_tool_does_not_think_before(model: str, choice: Any):
    """Frameworks insist on one for an answer of some shape; Claude refuses that together with thinking."""
    tool = {"type": "function", "function": {"name": "look"}}
    forced = asked(model, tools=[tool], tool_choice=choice)
    assert "thinking" not in forced
    assert forced.get("output_config") == asked(model).get("output_config")
    assert "thinking" in asked(model, tools=[tool], tool_choice="auto")
