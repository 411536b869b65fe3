"""What of a long conversation is left out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.dialects import DIALECTS
from metaclaw.chat.humans import human_indexes
from metaclaw.chat.messages import canonical_json
from metaclaw.gateway import context_limit
from metaclaw.journal.turns import RecordedTurn, TurnReader
from tests.fakes.llm import fake_llm
from tests.gateway.running import make_settings, running_gateway

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


def dropped_messages(
    messages: list[Message], blocks: dict[int, str], *, max_tokens: int, num_bytes: int
) -> frozenset[int]:
    request = DIALECTS["openai.chat"].parse({"messages": messages})
    return context_limit.dropped_messages(request, blocks, max_tokens=max_tokens, num_bytes=num_bytes)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 800))
def test_only_whole_old_exchanges_go_and_only_as_many_as_it_takes(tools: list[bool], max_tokens: int) -> None:
    system: Message = {"role": "system", "content": "Be brief."}
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
        kept_less = max_tokens * 3 - max_tokens * 3 // 8 - 60
        assert size([system, *messages[spared:]]) > kept_less, "the last exchange that went had to go"
        assert 1 + len(dropped) in humans
    else:
        assert size(messages) <= max_tokens * 3 + 20 or len(human_indexes(messages)) == 1


def test_a_long_conversation_begins_with_another_message_only_now_and_then() -> None:
    """At each such turn the provider's prompt cache is lost."""
    messages: list[Message] = []
    begins: list[int] = []
    for number in range(200):
        messages += exchange(number, has_tool=False)
        asked = [*messages, {"role": "user", "content": "next"}]
        dropped = dropped_messages(asked, {}, max_tokens=2000, num_bytes=size(asked))
        begins.append(len(dropped))
        assert size([message for index, message in enumerate(asked) if index not in dropped]) <= 6000 + 20
    assert begins == sorted(begins)
    assert len(set(begins)) < 200 / 4
    assert begins[-1] > 200


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


WORDS = st.sampled_from(["user", "call", "result", "said"])


@given(st.lists(WORDS, max_size=30), st.integers(0, 400), st.booleans())
def test_no_result_stays_without_its_call_though_somebody_spoke_between_them(
    steps: list[str], max_tokens: int, has_equal_ids: bool
) -> None:
    """Clients of responses send the result of a slow tool when it is there; some programs count calls from 0 again."""
    messages: list[Message] = []
    waiting: list[tuple[int, str]] = []
    called_at: dict[int, int] = {}
    for step in steps:
        index = len(messages)
        if step == "call":
            name = "call_0" if has_equal_ids else f"call_{index}"
            if any(other == name for _, other in waiting):
                continue
            waiting.append((index, name))
            call = {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif step == "result" and waiting:
            called_at[index], name = waiting.pop(0)
            messages.append({"role": "tool", "tool_call_id": name, "content": "result"})
        elif step == "user":
            messages.append({"role": "user", "content": f"question {index}"})
        else:
            messages.append({"role": "assistant", "content": f"answer {index}"})
    messages.append({"role": "user", "content": "next"})
    dropped = dropped_messages(messages, {}, max_tokens=max_tokens, num_bytes=size(messages))
    for result, call in called_at.items():
        assert (result in dropped) == (call in dropped)


@pytest.mark.anyio
@pytest.mark.parametrize("is_ascii", [False, True])
async def test_what_is_left_out_does_not_depend_on_how_a_client_escapes_its_words(
    tmp_path: Path, is_ascii: bool
) -> None:
    """Clients of .NET, PHP and Python's requests write \\uXXXX for each character that is not ASCII."""
    said: list[Message] = []
    for number in range(20):
        said += [
            {"role": "user", "content": f"{number} " + "\u4f60\u597d" * 100},
            {"role": "assistant", "content": "\u597d\u7684" * 100},
        ]
    body = {"model": "m", "messages": [*said, {"role": "user", "content": "\u7ee7\u7eed"}]}
    raw = json.dumps(body, ensure_ascii=is_ascii, indent=2 if is_ascii else None).encode()
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, max_context_tokens=4000)
        async with (
            running_gateway(settings) as gateway,
            gateway.post(raw, **{"Content-Type": "application/json"}) as response,
        ):
            assert response.status == 200, await response.text()
            assert response.headers["X-MetaClaw-Dropped-Messages"] == "22"
    assert len(llm.requests[0]["messages"]) == 19


@pytest.mark.anyio
async def test_thinking_that_a_provider_sealed_is_no_prompt(tmp_path: Path) -> None:
    """Codex sends all of it back, and it is most of the bytes of a session."""
    items: list[Message] = []
    for number in range(20):
        items += [
            {"type": "message", "role": "user", "content": f"question {number}"},
            {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": "A" * 3000},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"answer {number}"}]},
        ]
    body = {"model": "m", "input": [*items, {"type": "message", "role": "user", "content": "next"}]}
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, max_context_tokens=2000, llm={"provider": "openai"})
        async with running_gateway(settings) as gateway, gateway.post(body, "/v1/responses") as response:
            assert response.status == 200, await response.text()
            assert "X-MetaClaw-Dropped-Messages" not in response.headers
    assert len(llm.requests[0]["input"]) == 61


_LONG = "old news " * 400
_TOOL: dict[str, Any] = {"type": "object", "properties": {}}
_IN_CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"first {_LONG}"},
        *exchange(0, has_tool=True)[1:3],
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "second"},
    ],
}
_IN_MESSAGES: dict[str, Any] = {
    "system": "Be brief.",
    "max_tokens": 10,
    "tools": [{"name": "f", "input_schema": _TOOL}],
    "messages": [
        {"role": "user", "content": f"first {_LONG}"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c0", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c0", "content": "result"}]},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "second"},
    ],
}
_IN_RESPONSES: dict[str, Any] = {
    "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": f"first {_LONG}"},
        {"type": "function_call", "call_id": "c0", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c0", "output": "result"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "done", "annotations": []}],
        },
        {"type": "message", "role": "user", "content": "second"},
    ],
}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", _IN_CHAT), ("/v1/messages", _IN_MESSAGES), ("/v1/responses", _IN_RESPONSES)],
)
async def test_who_asks_too_long_is_told_what_was_left_out_and_so_is_the_journal(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, max_context_tokens=1000)
        async with running_gateway(settings) as gateway:
            async with gateway.post({"model": "m", **body}, path) as response:
                assert response.status == 200, await response.text()
                assert response.headers["X-MetaClaw-Dropped-Messages"] == "4"
            [turn] = await gateway.turns()
            recorded = await asyncio.to_thread(_messages, tmp_path, turn)
    asked = [(message["role"], message["content"]) for message in llm.requests[0]["messages"]]
    assert asked == [("system", "Be brief."), ("user", "second")]
    assert turn.num_dropped == 4
    assert sum(_LONG in str(message) for message in recorded) == 1, "what was asked is recorded as it was asked"


@pytest.mark.anyio
async def test_instructions_of_an_exchange_that_goes_join_the_system_prompt(tmp_path: Path) -> None:
    """Claude Code sends some behind the user's first message, and Anthropic refuses them in front of one."""
    long = {"role": "user", "content": f"first {_LONG}"}
    about = [{"role": "system", "content": [{"type": "text", "text": text}]} for text in ("# Environment", "# Tools")]
    end = [{"role": "user", "content": "second"}, {"role": "system", "content": "# Today"}]
    body = {"model": "m", "max_tokens": 9, "system": "Be brief."}
    said = [long, about[0], {"role": "assistant", "content": "done"}, long, about[1], *end]
    async with fake_llm() as llm:
        settings = make_settings(
            tmp_path, llm_url=llm.url, max_context_tokens=1000, llm={"dialects": ["anthropic.messages"]}
        )
        async with (
            running_gateway(settings) as gateway,
            gateway.post({**body, "messages": said}, "/v1/messages") as response,
        ):
            assert response.status == 200, await response.text()
            assert response.headers["X-MetaClaw-Dropped-Messages"] == "3"
    [asked] = llm.requests
    assert [block["text"] for block in asked["system"]] == ["Be brief.", "# Environment", "# Tools"]
    assert asked["messages"] == end


def _messages(home: Path, turn: RecordedTurn) -> list[Message]:
    with TurnReader.open(home / "turns.db") as reader:
        return reader.messages(turn)
