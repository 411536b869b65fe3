"""Streams between chat and the responses API, read by the official SDK."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIError, OpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.responses.dialect import ResponsesDialect
from metaclaw.chat.sse import SseEvent, SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from tests.chat.responses_material import ANSWER, chunks_of, completion

Json = dict[str, Any]
RESPONSES = ResponsesDialect()
REQUEST: Json = {"model": "m", "input": "hi", "stream": True}
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
HEAD: Json = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}


def chunk(finish_reason: str | None = None, **delta: Any) -> Json:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def call_delta(index: int | None, arguments: str, call_id: str = "", name: str = "") -> Json:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    delta: Json = {"function": function, **({"id": call_id} if call_id else {})}
    return chunk(tool_calls=[delta if index is None else {"index": index, **delta}])


def stream_of(chunks: list[Json], **request: Any) -> bytes:
    sink = RESPONSES.sink({**REQUEST, **request})
    return b"".join([*map(sink.add_chunk, chunks), sink.finish()])


def events_of(stream: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [*parser.feed(stream), *parser.finish()]


def data_of(stream: bytes) -> list[Json]:
    return [json.loads(event.data or "") for event in events_of(stream)]


def read_back(pieces: list[bytes]) -> tuple[Json | None, str | None, Json | None]:
    """What a chat client behind us would get of this stream of a model."""
    parser, source, assembler = SseParser(), RESPONSES.source(), StreamAssembler()
    events = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
    for event in events:
        for made in source.add_event(event):
            assembler.add(made)
    assert source.is_done
    assert source.error is None
    answer = assembler.answer()
    return answer.message, answer.finish_reason, answer.usage


def sdk_for(stream: bytes) -> OpenAI:
    def reply(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=stream, headers={"content-type": "text/event-stream"})

    transport = httpx2.MockTransport(reply)
    return OpenAI(api_key="k", base_url="http://sdk.test/v1", http_client=httpx2.Client(transport=transport))


@given(ANSWER, st.sampled_from([None, "auto"]), st.booleans(), st.data())
def test_a_stream_is_what_the_sdk_expects_and_comes_back_unchanged(
    message: Json, summary: str | None, is_sealed: bool, cuts: st.DataObject
) -> None:
    finish_reason = "tool_calls" if message.get("tool_calls") else "stop"
    include = ["reasoning.encrypted_content"] if is_sealed else []
    stream = stream_of(chunks_of(message, finish_reason, cuts), reasoning={"summary": summary}, include=include)
    events = data_of(stream)
    for number, event in enumerate(events):
        EVENT.validate_python(event, strict=True)
        assert event["sequence_number"] == number
    plain = RESPONSES.answer_from_chat(
        completion(message, finish_reason), {**REQUEST, "reasoning": {"summary": summary}, "include": include}
    )
    assert events[-1]["response"] == plain
    at = cuts.draw(st.integers(0, len(stream)))
    usage = completion(message, finish_reason)["usage"]
    assert read_back([stream[:at], stream[at:]]) == (message, finish_reason, usage)


def test_a_stream_may_be_cut_at_every_byte() -> None:
    message = {"role": "assistant", "content": "grün 🌳", "reasoning_content": "hm", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "ß"}'}},
    ]}  # fmt: skip
    chunks = [
        chunk(role="assistant", content=""), chunk(reasoning_content="hm"), chunk(content="grün "), chunk(content="🌳"),
        call_delta(0, '{"at": "ß"}', "call_1", "look"), chunk("tool_calls"),
    ]  # fmt: skip
    stream = stream_of(chunks)
    assert read_back([bytes([byte]) for byte in stream]) == (message, "tool_calls", None)


@given(ANSWER, st.data())
def test_the_sdk_accumulates_what_the_model_said(message: Json, cuts: st.DataObject) -> None:
    finish_reason = "tool_calls" if message.get("tool_calls") else "stop"
    client = sdk_for(stream_of(chunks_of(message, finish_reason, cuts)))
    with client.responses.stream(model="m", input="hi") as stream:
        heard = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert heard == final.output_text == (message["content"] or "")
    called = [(item.call_id, item.name, item.arguments) for item in final.output if item.type == "function_call"]
    wanted = [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])
    ]
    assert called == wanted


def test_events_come_in_the_order_that_programs_rely_on() -> None:
    chunks = [
        chunk(role="assistant", content=""), chunk(reasoning_content="hm"), chunk(content="I "), chunk(content="look."),
        call_delta(0, "{}", "call_1", "look"), call_delta(1, "{}", "call_2", "look"), chunk("tool_calls"),
    ]  # fmt: skip
    assert [event["type"].removeprefix("response.") for event in data_of(stream_of(chunks))] == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip


def test_the_first_words_are_passed_on_before_the_next_come() -> None:
    sink = RESPONSES.sink(REQUEST)
    sink.add_chunk(chunk(role="assistant", content=""))
    assert b'"delta":"Hel"' in sink.add_chunk(chunk(content="Hel"))


def test_thinking_may_go_on_after_words() -> None:
    chunks = [
        chunk(reasoning_content="a"),
        chunk(content="b"),
        chunk(reasoning_content="c"),
        chunk(content="d"),
        chunk("stop"),
    ]
    stream = stream_of(chunks)
    assert [item["type"] for item in data_of(stream)[-1]["response"]["output"]] == ["reasoning", "message"] * 2
    message, _, _ = read_back([stream])
    assert message == {"role": "assistant", "content": "bd", "reasoning_content": "a\n\nc"}


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([(0, "a", "f", "{"), (0, "", "", "}"), (1, "b", "g", "[]")], id="one after the other"),
        pytest.param([(3, "a", "f", "{"), (3, "", "", "}"), (5, "b", "g", "[]")], id="counted from elsewhere"),
        pytest.param([(None, "a", "f", "{"), (None, "", "", "}"), (None, "b", "g", "[]")], id="not counted"),
        pytest.param([(0, "a", "f", "{"), (0, "a", "", "}"), (0, "b", "g", "[]")], id="all counted zero"),
        pytest.param([(0, "a", "f", ""), (0, "x", "", "{"), (0, "y", "", "}"), (1, "b", "g", "[]")], id="new ids"),
        pytest.param([(0, "a", "f", "{"), (1, "b", "g", "["), (0, "", "", "}"), (1, "", "", "]")], id="by turns"),
        pytest.param([(0, "a", "f", ""), (1, "b", "g", "[]")], id="no arguments"),
    ],
)
def test_calls_are_told_apart_however_a_server_counts_them(deltas: list[tuple[int | None, str, str, str]]) -> None:
    chunks = [call_delta(index, arguments, key, name) for index, key, name, arguments in deltas]
    output = data_of(stream_of([*chunks, chunk("tool_calls")]))[-1]["response"]["output"]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in output] == [
        ("a", "f", "{}"),
        ("b", "g", "[]"),
    ]


def test_calls_by_turns_and_words_between_them_are_what_the_sdk_accumulates() -> None:
    chunks = [
        call_delta(0, '{"path": ', "a", "f"),
        call_delta(1, '{"q"', "b", "g"),
        chunk(content="meanwhile"),
        call_delta(1, ": 1}"),
        call_delta(0, '"/"}'),
        chunk("tool_calls"),
    ]
    stream = stream_of(chunks)
    with sdk_for(stream).responses.stream(model="m", input="hi") as events:
        output = events.get_final_response().output
    assert [item.type for item in output] == ["function_call", "function_call", "message"]
    assert [item.arguments for item in output if item.type == "function_call"] == ['{"path": "/"}', '{"q": 1}']
    added = [data["output_index"] for data in data_of(stream) if data["type"] == "response.output_item.added"]
    assert added == [0, 1, 2]


def test_more_than_a_calls_arguments_is_an_error_and_never_a_call() -> None:
    chunks = [
        call_delta(0, "{}", "a", "f"),
        call_delta(1, "{}", "b", "g"),
        call_delta(0, '{"path":'),
        chunk("tool_calls"),
    ]
    stream = stream_of(chunks)
    assert data_of(stream)[-1]["type"] == "response.failed"
    with (
        pytest.raises(APIError, match="goes on with the arguments"),
        sdk_for(stream).responses.stream(model="m", input="hi") as events,
    ):
        events.until_done()


def test_an_answer_that_breaks_off_is_an_error_for_the_sdk_and_a_failed_response_for_the_rest() -> None:
    sink = RESPONSES.sink(REQUEST)
    error: JsonObject = {
        "error": {"message": "the model went away", "type": "server_error", "param": None, "code": "upstream_error"}
    }
    stream = sink.add_chunk(chunk(content="I was go")) + sink.fail(error)
    assert sink.add_chunk(chunk(content="ing to")) + sink.finish() + sink.fail(error) == b""
    with pytest.raises(APIError, match="the model went away") as raised:
        list(sdk_for(stream).responses.create(model="m", input="hi", stream=True))
    assert raised.value.code == "upstream_error"
    last = data_of(stream)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "upstream_error", "message": "the model went away"}
    assert last["response"]["output"][0]["content"][0]["text"] == "I was go"


def test_an_answer_that_breaks_off_before_it_began_is_a_whole_stream_too() -> None:
    stream = RESPONSES.sink(REQUEST).fail({"error": {"message": "no", "code": None}})
    assert [event["type"] for event in data_of(stream)] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]


@pytest.mark.parametrize("chunks", [[], [chunk("stop")], [chunk(reasoning_content="hm"), chunk("stop")]])
def test_a_model_that_says_nothing_says_an_empty_message(chunks: list[Json]) -> None:
    response = data_of(stream_of(chunks))[-1]["response"]
    assert response["status"] == "completed"
    assert response["output"][-1]["content"][0]["text"] == ""


def test_pages_that_an_answer_cites_are_told_and_come_back() -> None:
    where = {"url": "https://example.org", "title": "Example", "start_index": 0, "end_index": 2}
    cited = {"type": "url_citation", "url_citation": where}
    stream = stream_of([chunk(content="Hi"), chunk(annotations=[cited, {"type": "other"}]), chunk("stop")])
    for data in data_of(stream):
        EVENT.validate_python(data)
    message = {"role": "assistant", "content": "Hi", "annotations": [cited]}
    answer = RESPONSES.answer_from_chat(completion(message, "stop"), REQUEST)
    last = data_of(stream)[-1]["response"]
    assert last["output"] == answer["output"]
    assert last["output"][0]["content"][0]["annotations"] == [{"type": "url_citation", **where}]
    assert read_back([stream])[0] == RESPONSES.answer_to_chat(answer)["choices"][0]["message"] == message


def test_a_length_limit_is_an_incomplete_response() -> None:
    stream = stream_of([chunk(content="I was"), chunk("length")])
    last = data_of(stream)[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (
        "response.incomplete",
        {"reason": "max_output_tokens"},
    )
    assert read_back([stream])[1] == "length"


def test_a_server_that_sends_no_deltas_is_understood_and_nothing_is_said_twice() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "call_1", "name": "look", "arguments": "{}"}
    spoken = {
        "type": "message",
        "id": "msg",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello"}],
    }
    thought = {
        "type": "reasoning",
        "id": "rs",
        "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
    }
    response = {
        "id": "resp_1",
        "status": "completed",
        "model": "m",
        "created_at": 7.5,
        "output": [thought, spoken, call],
    }
    events: list[Json] = [
        {"type": "response.output_item.done", "output_index": 0, "item": thought},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hel"},
        {"type": "response.output_text.done", "output_index": 1, "content_index": 0, "text": "Hello"},
        {"type": "response.completed", "response": response},
    ]
    stream = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    function = {"name": "look", "arguments": "{}"}
    assert read_back([stream])[0] == {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "a\n\nb",
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }


@pytest.mark.parametrize(
    "data",
    [
        {"type": "error", "code": "server_error", "message": "broke", "param": None, "sequence_number": 3},
        {"type": "error", "error": {"message": "broke", "code": "server_error"}},
        {"error": {"message": "broke"}},
        {
            "type": "response.failed",
            "response": {"status": "failed", "error": {"code": "server_error", "message": "broke"}},
        },
    ],
)
def test_an_error_inside_a_models_stream_is_seen(data: Json) -> None:
    source = RESPONSES.source()
    [event] = events_of(b"data: " + json.dumps(data).encode() + b"\n\n")
    assert source.add_event(event) == []
    assert source.error is not None
    assert source.error["message"] == "broke"
    assert not source.is_done


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "output_index",
    "content_index",
    "item",
    "response",
    "delta",
    "text",
    "part",
    "output",
    "choices",
    "usage",
    "error",
]


@given(st.lists(st.tuples(
    st.sampled_from(["response.created", "response.output_item.added", "response.output_item.done", "error",
                     "response.output_text.delta", "response.function_call_arguments.done", "response.completed", "x"]),
    st.dictionaries(st.sampled_from(KEYS), JUNK),
), max_size=5))  # fmt: skip
def test_no_stream_is_too_strange_to_be_read(events: list[tuple[str, Json]]) -> None:
    source, sink = RESPONSES.source(), RESPONSES.sink(REQUEST)
    for kind, fields in events:
        raw = b"data: " + json.dumps({"type": kind, **fields}).encode() + b"\n\n"
        for event in events_of(raw):
            for made in source.add_event(event):
                sink.add_chunk(made)
        sink.add_chunk(fields)
    sink.finish()
