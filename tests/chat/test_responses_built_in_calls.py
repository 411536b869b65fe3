"""Calls of OpenAI's own tools that a client runs: passed on to who knows them, and recorded as calls."""

from __future__ import annotations

from typing import Any

import pytest

from metaclaw.chat.dialects import RESPONSES
from metaclaw.chat.messages import answer_identity
from metaclaw.chat.responses.whole import stream_of
from metaclaw.chat.sse import SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.errors import InvalidRequestError

Json = dict[str, Any]
SHELL: Json = {"type": "shell_call", "call_id": "c1", "action": {"commands": ["ls"], "timeout_ms": None}, "id": "sh_1"}
PATCH: Json = {"type": "apply_patch_call", "call_id": "c1", "operation": {"type": "delete_file", "path": "a"}}
CLICK: Json = {"type": "computer_call", "call_id": "c1", "actions": [{"type": "wait"}], "pending_safety_checks": []}
LOCAL: Json = {"type": "local_shell_call", "call_id": "c1", "action": {"type": "exec", "command": ["ls"], "env": {}}}
RAN: Json = {"type": "shell_call_output", "call_id": "c1", "output": [{"stdout": "a"}]}


def answered(*items: Json) -> tuple[Json, Json]:
    """What the answer of these items says in chat, whole and streamed."""
    response: Json = {"id": "r", "object": "response", "status": "completed", "output": list(items), "model": "m"}
    assembler, source = StreamAssembler(), RESPONSES.source()
    for event in SseParser().feed(stream_of(response) or b""):
        for chunk in source.add_event(event):
            assembler.add(chunk)
    answer = assembler.answer()
    streamed = {"message": answer.message, "finish_reason": answer.finish_reason}
    return RESPONSES.answer_to_chat(response)["choices"][0], streamed


@pytest.mark.parametrize("item", [SHELL, PATCH, CLICK, LOCAL], ids=lambda item: item["type"])
def test_a_call_that_the_client_runs_is_one_that_waits_for_its_result(item: Json) -> None:
    for choice in answered(item):
        assert choice["finish_reason"] == "tool_calls"
        [call] = choice["message"]["tool_calls"]
        assert (call["id"], call["function"]["name"]) == ("c1", item["type"].removesuffix("_call"))
        again = RESPONSES.parse({"model": "m", "input": [item, {**RAN, "type": f"{item['type']}_output"}]}).messages
        assert answer_identity(again[0]) == answer_identity(choice["message"])
        assert [message["role"] for message in again] == ["assistant", "tool"]
    with pytest.raises(InvalidRequestError, match="cannot be told"):
        RESPONSES.to_chat({"model": "m", "input": [item]})


def test_what_the_client_leaves_out_of_a_call_that_says_nothing_does_not_change_it() -> None:
    shorter = {**SHELL, "action": {"commands": ["ls"]}}
    first, second = (RESPONSES.parse({"model": "m", "input": [item]}).messages[0] for item in (SHELL, shorter))
    assert answer_identity(first) == answer_identity(second)


def test_a_call_that_the_provider_ran_waits_for_nothing() -> None:
    text = {"type": "output_text", "text": "done", "annotations": []}
    said = {"type": "message", "id": "m", "role": "assistant", "content": [text]}
    for choice in answered(SHELL, RAN, said):
        assert choice["finish_reason"] == "stop"
