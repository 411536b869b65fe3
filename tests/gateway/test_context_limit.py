"""What of a long conversation is left out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.humans import human_indexes
from metaclaw.chat.messages import canonical_json
from metaclaw.gateway.context_limit import dropped_messages

Message = dict[str, Any]


def exchange(number: int, *, has_tool: bool) -> list[Message]:
    said: list[Message] = [{"role": "user", "content": f"question {number} " + "x" * 60}]
    if has_tool:
        call = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        said.append({"role": "assistant", "content": None, "tool_calls": [call]})
        said.append({"role": "tool", "tool_call_id": f"c{number}", "content": "result " * 20})
    return [*said, {"role": "assistant", "content": f"answer {number}"}]


def size(messages: list[Message]) -> int:
    return len(canonical_json({"messages": messages}))


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 800))
def test_only_whole_old_exchanges_go_and_only_as_many_as_it_takes(tools: list[bool], max_tokens: int) -> None:
    system = {"role": "system", "content": "Be brief."}
    messages = [system]
    for number, has_tool in enumerate(tools):
        messages += exchange(number, has_tool=has_tool)
    messages = messages[:-1]  # the last answer is being asked for
    dropped = dropped_messages(messages, {}, max_tokens=max_tokens, num_bytes=size(messages))
    kept = [message for index, message in enumerate(messages) if index not in dropped]
    assert kept[0] == system
    last = human_indexes(messages)[-1]
    assert kept[-len(messages[last:]) :] == messages[last:]
    calls = [call["id"] for message in kept for call in message.get("tool_calls", [])]
    assert calls == [message["tool_call_id"] for message in kept if message["role"] == "tool"]
    assert dropped == frozenset(range(1, 1 + len(dropped))), "the oldest, without a hole"
    if dropped:
        humans = human_indexes(messages)
        spared = max(human for human in humans if human in dropped)
        assert size([system, *messages[spared:]]) > max_tokens * 3 - 60, "the last exchange that went had to go"
        assert 1 + len(dropped) in humans
    else:
        assert size(messages) <= max_tokens * 3 or len(human_indexes(messages)) == 1


def test_an_image_weighs_what_it_costs_the_model_not_what_its_file_takes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    messages: list[Message] = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
        {"role": "assistant", "content": "a cat"},
        {"role": "user", "content": "sure?"},
    ]
    assert not dropped_messages(messages, {}, max_tokens=4000, num_bytes=size(messages))
    assert dropped_messages(messages, {}, max_tokens=1000, num_bytes=size(messages)) == {0, 1}


def test_recalled_text_counts() -> None:
    messages = [*exchange(1, has_tool=False), {"role": "user", "content": "next"}]
    room = size(messages) // 3 + 10
    assert not dropped_messages(messages, {}, max_tokens=room, num_bytes=size(messages))
    assert dropped_messages(messages, {2: "skill " * 50}, max_tokens=room, num_bytes=size(messages)) == {0, 1}
