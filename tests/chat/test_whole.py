"""Plain answers and the streams that bring the same, within Anthropic's messages and OpenAI's responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.dialects import DIALECTS
from metaclaw.chat.sse import SseEvent, SseParser, encode_event
from metaclaw.chat.whole import answer_of, stream_of
from tests.fakes import openai_llm

Json = dict[str, Any]
MESSAGES, RESPONSES = "anthropic.messages", "openai.responses"

TEXT = st.text(st.characters(codec=None), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
INPUT = st.dictionaries(TEXT, JSON, max_size=3)
BLOCK = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}, optional={"citations": st.none()}),
    st.fixed_dictionaries(
        {"type": st.just("text"), "text": TEXT, "citations": st.lists(st.fixed_dictionaries({"url": TEXT}), max_size=2)}
    ),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXT, "signature": TEXT}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": TEXT}),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]),
            "id": TEXT,
            "name": TEXT,
            "input": INPUT,
        }
    ),
    st.fixed_dictionaries({"type": st.just("web_search_tool_result"), "tool_use_id": TEXT, "content": JSON}),
)
MESSAGE = st.fixed_dictionaries(
    {
        "id": TEXT,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": TEXT,
        "content": st.lists(BLOCK, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn"]),
        "stop_sequence": st.none() | TEXT,
        "usage": st.fixed_dictionaries(
            {"input_tokens": st.integers(0, 9), "output_tokens": st.integers(0, 9)},
            optional={"cache_read_input_tokens": st.integers(0, 9), "server_tool_use": JSON},
        ),
    },
    optional={"container": JSON, "stop_details": JSON, "context_management": JSON, "of_tomorrow": JSON},
)
ANNOTATION = st.fixed_dictionaries({"type": st.just("url_citation"), "url": TEXT})
OUTPUT_TEXT = st.fixed_dictionaries(
    {"type": st.just("output_text"), "text": TEXT, "annotations": st.lists(ANNOTATION, max_size=2)},
    optional={"logprobs": st.lists(JSON, max_size=1)},
)
PART = st.one_of(OUTPUT_TEXT, st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXT}), INPUT)
ITEM = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("message"), "id": TEXT, "role": st.just("assistant"), "content": st.lists(PART, max_size=2)},
        optional={"status": st.just("completed"), "phase": TEXT},
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "id": TEXT, "call_id": TEXT, "name": TEXT, "arguments": TEXT}
    ),
    st.fixed_dictionaries({"type": st.just("custom_tool_call"), "id": TEXT, "name": TEXT, "input": TEXT}),
    st.fixed_dictionaries(
        {
            "type": st.just("reasoning"),
            "id": TEXT,
            "summary": st.lists(st.fixed_dictionaries({"type": st.just("summary_text"), "text": TEXT}), max_size=2),
        },
        optional={"encrypted_content": TEXT, "content": st.just([{"type": "reasoning_text", "text": "hm"}])},
    ),
    st.fixed_dictionaries({"type": st.just("web_search_call"), "id": TEXT, "action": JSON}),
)
RESPONSE = st.fixed_dictionaries(
    {
        "id": TEXT,
        "object": st.just("response"),
        "status": st.sampled_from(["completed", "incomplete"]),
        "output": st.lists(ITEM, max_size=4),
        "usage": st.none() | st.just({"input_tokens": 1, "output_tokens": 2}),
        "error": st.none(),
        "incomplete_details": st.none() | st.just({"reason": "max_output_tokens"}),
    },
    optional={"of_tomorrow": JSON},
)


def events(stream: bytes | None) -> list[SseEvent]:
    assert stream is not None
    parser = SseParser()
    return [*parser.feed(stream), *parser.finish()]


def datas(stream: bytes | None) -> list[Json]:
    return [json.loads(event.data or "") for event in events(stream)]


@given(MESSAGE)
def test_a_message_told_as_a_stream_is_the_same_message(message: Json) -> None:
    assert answer_of(MESSAGES, events(stream_of(MESSAGES, message))) == message


@given(RESPONSE)
def test_a_response_told_as_a_stream_is_the_same_response(response: Json) -> None:
    told = events(stream_of(RESPONSES, response))
    assert answer_of(RESPONSES, told) == response
    numbers = [json.loads(event.data or "")["sequence_number"] for event in told]
    assert numbers == list(range(len(told)))
    items = [json.loads(event.data or "")["item"] for event in told if event.event == "response.output_item.done"]
    assert items == response["output"], "who reads the items alone has them all"


@given(MESSAGE)
def test_the_deltas_of_a_message_say_what_it_does(message: Json) -> None:
    deltas = [data["delta"] for data in datas(stream_of(MESSAGES, message)) if data["type"] == "content_block_delta"]
    for key in ("text", "thinking"):
        assert "".join(it.get(key, "") for it in deltas) == "".join(it.get(key, "") for it in message["content"])
    written = [json.loads(it["partial_json"] or "{}") for it in deltas if it["type"] == "input_json_delta"]
    assert written == [block["input"] for block in message["content"] if "input" in block]


@given(RESPONSE)
def test_the_deltas_of_a_response_say_what_it_does(response: Json) -> None:
    told = datas(stream_of(RESPONSES, response))
    said = "".join(data["delta"] for data in told if data["type"] == "response.output_text.delta")
    parts = [part for item in response["output"] for part in item.get("content", ())]
    assert said == "".join(part["text"] for part in parts if part.get("type") == "output_text")
    written = "".join(data["delta"] for data in told if data["type"] == "response.function_call_arguments.delta")
    assert written == "".join(item.get("arguments", "") for item in response["output"])
    begun = [data["item"] for data in told if data["type"] == "response.output_item.added"]
    assert not [item for item in begun if item.get("content") or item.get("arguments") or item.get("summary")]


@pytest.mark.parametrize(("dialect", "answers"), [(MESSAGES, MESSAGE), (RESPONSES, RESPONSE)])
@given(data=st.data())
def test_the_journal_reads_the_stream_as_complete(
    dialect: str, answers: st.SearchStrategy[Json], data: st.DataObject
) -> None:
    source = DIALECTS[dialect].source()
    for event in events(stream_of(dialect, data.draw(answers))):
        source.add_event(event)
    assert source.is_done
    assert source.error is None


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        (MESSAGES, {"type": "message"}),
        (MESSAGES, {"content": "text"}),
        (RESPONSES, {"output": None}),
        (RESPONSES, {"output": [], "status": "queued"}),
        ("openai.completions", {"choices": "none"}),
        ("openai.embeddings", {"data": []}),
    ],
)
def test_what_is_no_answer_is_no_stream(dialect: str, answer: Json) -> None:
    assert stream_of(dialect, answer) is None


@given(st.lists(JSON | INPUT | MESSAGE, max_size=4), st.sampled_from([MESSAGES, RESPONSES]))
def test_nonsense_raises_nothing(told: list[Any], dialect: str) -> None:
    for one in told:
        if isinstance(one, dict):
            stream_of(dialect, {"content": told, "output": told, **one})
    kinds = ["message_start", "content_block_delta", "message_delta", "response.output_item.done", "response.completed"]
    made = [encode_event(json.dumps(one), kind) for one in told for kind in kinds]
    answer_of(dialect, events(b"".join([*made, b"data: {\n\n"])))


def test_a_response_whose_end_is_empty_has_what_its_items_said() -> None:
    given_ = openai_llm.response({"model": "m"}, "Hello.", "stop", None)
    told = events(stream_of(RESPONSES, given_))
    last = json.loads(told[-1].data or "")
    last["response"]["output"] = []
    stripped = [*told[:-1], *events(encode_event(json.dumps(last), "response.completed"))]
    assert answer_of(RESPONSES, stripped) == given_


def test_a_block_that_is_told_in_deltas_of_a_new_kind_is_whole() -> None:
    events = [
        {"type": "message_start", "message": {"id": "m", "type": "message", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction", "content": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": "so far"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "compaction"}, "usage": {"output_tokens": 1}},
    ]
    raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    answer = answer_of("anthropic.messages", SseParser().feed(raw))
    assert answer is not None
    assert answer["content"] == [{"type": "compaction", "content": "so far"}]
