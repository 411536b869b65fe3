"""Clients of responses before Claude, and clients of Anthropic's messages before models that speak responses.

What goes by way of chat both ways comes back to its model as it said it, streamed or not.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.dialect import Dialect
from metaclaw.chat.dialects import ANTHROPIC, RESPONSES
from metaclaw.chat.whole import answer_of
from tests.chat.anthropic_material import Json, request, result, text, use, user
from tests.chat.test_anthropic_streams import anthropic_stream, events_of
from tests.fakes.openai_llm import response_events

WORDS = st.text(st.sampled_from('ab\u00e9\U0001f600"\\{}[]\n <>'), min_size=1, max_size=9).map(lambda said: f"{said}x")
INPUTS = st.sampled_from([{}, {"a": [1, {"b": '"}'}]}]) | st.dictionaries(WORDS, WORDS, min_size=1, max_size=2)
SEALED = st.builds(
    lambda said, seal: {"type": "thinking", "thinking": said, "signature": seal}, WORDS, WORDS
) | st.builds(lambda data: {"type": "redacted_thinking", "data": data}, WORDS)


def told(upstream: Dialect, client: Dialect, stream: bytes, asked: Json) -> Json:
    """The plain answer that a client of ``client`` makes of a model's ``stream``."""
    source, sink = upstream.source(), client.sink(asked)
    chunks = [chunk for event in events_of([stream]) for chunk in source.add_event(event)]
    assert (source.is_done, source.error) == (True, None)
    answer = answer_of(client.name, events_of([*map(sink.add_chunk, chunks), sink.finish()]))
    assert answer is not None
    return answer


@given(st.lists(SEALED, max_size=2), st.none() | WORDS, st.lists(INPUTS, max_size=3), st.booleans(), st.booleans())
def test_what_claude_thought_said_and_called_comes_back_to_it_from_a_client_of_responses(
    thoughts: list[Json], said: str | None, inputs: list[Json], is_stream: bool, is_summary: bool
) -> None:
    blocks = [*thoughts, *([text(said or "x")] if said or not inputs else [])]
    blocks += [use(f"toolu_{number}", **given) for number, given in enumerate(inputs)]
    usage = {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 7}
    answer = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": blocks,
        "stop_reason": "tool_use" if inputs else "end_turn", "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    asked: Json = {"model": "m", "input": "hi", "include": ["reasoning.encrypted_content"]}
    asked |= {"reasoning": {"summary": "auto"}} if is_summary else {}
    if is_stream:
        given = told(ANTHROPIC, RESPONSES, anthropic_stream(answer), asked)
    else:
        given = RESPONSES.answer_from_chat(ANTHROPIC.answer_to_chat(answer), asked)
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "done"}
        for item in given["output"]
        if item["type"] == "function_call"
    ]
    history = [{"role": "user", "content": "hi"}, *given["output"], *results, {"role": "user", "content": "go on"}]
    back = ANTHROPIC.from_chat(RESPONSES.to_chat({**asked, "input": history}))["messages"][1]["content"]
    assert ([text(back)] if isinstance(back, str) else back) == blocks
    assert (given["usage"]["input_tokens"], given["usage"]["output_tokens"]) == (5, 7)


@given(st.none() | WORDS, st.none() | WORDS, st.lists(INPUTS, max_size=3), st.booleans())
def test_what_a_responses_model_said_and_called_comes_back_to_it_from_a_client_of_messages(
    thought: str | None, said: str | None, inputs: list[Json], is_stream: bool
) -> None:
    part = {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    summary = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": thought}]}
    calls: list[Json] = [
        {
            "id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}", "name": "ls",
            "arguments": json.dumps(given, ensure_ascii=False), "status": "completed",
        }
        for number, given in enumerate(inputs)
    ]  # fmt: skip
    output = [*([summary] if thought else []), *([message] if said else []), *calls]
    usage: Json = {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 3}
    response = {"id": "resp_1", "created_at": 1, "status": "completed", "model": "gpt", "output": output}
    asked = request(user("hi"))
    if is_stream:
        stream = b"".join(map(_bytes, response_events({**response, "usage": usage})))
        given = told(RESPONSES, ANTHROPIC, stream, asked)
    else:
        given = ANTHROPIC.answer_from_chat(RESPONSES.answer_to_chat({**response, "usage": usage}), asked)
    results = [result(block["id"], "done") for block in given["content"] if block["type"] == "tool_use"]
    answered = {"role": "assistant", "content": given["content"] or [text("x")]}
    history = request(user("hi"), answered, user([*results, text("go on")]))
    items: list[Json] = RESPONSES.from_chat(ANTHROPIC.to_chat(history))["input"]
    texts = [item["content"] for item in items if item.get("role") == "assistant"]
    assert texts == ([said] if said else [] if output else ["x"])
    called = [(item["call_id"], json.loads(item["arguments"])) for item in items if item["type"] == "function_call"]
    assert called == [(call["call_id"], json.loads(call["arguments"])) for call in calls]
    assert given["stop_reason"] == ("tool_use" if inputs else "end_turn")
    assert (given["usage"]["input_tokens"], given["usage"]["cache_read_input_tokens"]) == (5, 2)


def _bytes(event: Any) -> bytes:
    assert isinstance(event, bytes)
    return event
