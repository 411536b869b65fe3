"""Streams between Anthropic's messages and chat, read by the official SDKs of both."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.anthropic.dialect import DIALECT
from metaclaw.chat.anthropic.own_thinking import SIGNATURE
from metaclaw.chat.messages import JsonObject, answer_identity
from metaclaw.chat.sse import SseEvent, SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from tests.chat.anthropic_material import Json, call, request, text, use

THINKING = {"type": "thinking", "thinking": "hm, yes", "signature": "s"}
HIDDEN = {"type": "redacted_thinking", "data": "x"}
USAGE = {"input_tokens": 3, "cache_read_input_tokens": 20, "output_tokens": 7}
ANSWER: Json = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
    "content": [THINKING, HIDDEN, text("Let me \\look."), use("t1", path='a"}é'), use("t2")],
    "stop_reason": "tool_use", "stop_sequence": None, "usage": USAGE,
}  # fmt: skip


def event(kind: str, **keys: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **keys})}\n\n".encode()


def anthropic_stream(answer: Json = ANSWER) -> bytes:
    """What Anthropic's server sends for ``answer``: in small pieces, the counts in two places, a ping in between."""
    head = {**answer, "content": [], "stop_reason": None, "usage": {**answer["usage"], "output_tokens": 1}}
    stream = event("message_start", message=head) + event("ping") + b": keep-alive\n\n"
    for index, block in enumerate(answer["content"]):
        start, deltas = _in_pieces(block)
        stream += event("content_block_start", index=index, content_block=start)
        stream += b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        stream += event("content_block_stop", index=index)
    keys = {name: answer.get(name) for name in ("stop_reason", "stop_sequence")}
    stream += event("message_delta", delta=keys, usage={"output_tokens": answer["usage"]["output_tokens"]})
    return stream + event("message_stop")


def _in_pieces(block: Json) -> tuple[Json, list[Json]]:
    match block["type"]:
        case "text":
            return text(""), [{"type": "text_delta", "text": part} for part in block["text"]]
        case "thinking":
            deltas: list[Json] = [{"type": "thinking_delta", "thinking": part} for part in block["thinking"]]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use":
            arguments = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *arguments]]
            return {**block, "input": {}}, deltas
        case _:
            return block, []


def events_of(stream: Iterable[bytes]) -> list[SseEvent]:
    parser = SseParser()
    events = [event for piece in stream for event in parser.feed(piece)]
    return [*events, *parser.finish()]


def chunks_of(*stream: bytes) -> list[JsonObject]:
    source = DIALECT.source()
    chunks = [chunk for event in events_of(stream) for chunk in source.add_event(event)]
    assert source.is_done
    assert source.error is None
    return chunks


def folded(chunks: Iterable[JsonObject]) -> Json:
    """The plain chat answer that the chunks make."""
    assembler = StreamAssembler()
    for chunk in chunks:
        assembler.add(chunk)
    answer = assembler.answer()
    return {"choices": [{"message": answer.message, "finish_reason": answer.finish_reason}], "usage": answer.usage}


def sunk(chunks: Iterable[JsonObject], body: Json | None = None) -> bytes:
    sink = DIALECT.sink(body or request())
    return b"".join(sink.add_chunk(chunk) for chunk in chunks) + sink.finish()


def _serving(stream: bytes) -> httpx2.MockTransport:
    headers = {"content-type": "text/event-stream"}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=stream))


def read_by_anthropic(stream: bytes) -> Json:
    """The message that Anthropic's own SDK makes of ``stream``."""
    with httpx2.Client(transport=_serving(stream)) as http:
        client = anthropic.Anthropic(api_key="k", http_client=http, max_retries=0)
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as answer:
            return answer.get_final_message().to_dict()


def read_by_openai(chunks: Iterable[JsonObject]) -> openai.types.chat.ChatCompletion:
    """The completion that OpenAI's own SDK makes of ``chunks``."""
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    with httpx2.Client(transport=_serving(stream)) as http:
        client = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
        with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}]) as answer:
            return answer.get_final_completion()


def test_a_stream_folds_to_the_plain_answer() -> None:
    plain = DIALECT.answer_to_chat(ANSWER)
    [choice] = folded(chunks_of(anthropic_stream()))["choices"]
    assert choice["message"] == plain["choices"][0]["message"]
    assert choice["finish_reason"] == plain["choices"][0]["finish_reason"]
    assert folded(chunks_of(anthropic_stream()))["usage"] == plain["usage"]


def test_the_openai_sdk_reads_the_chunks_of_an_anthropic_stream() -> None:
    completion = read_by_openai(chunks_of(anthropic_stream()))
    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("Let me \\look.", "tool_calls")
    calls = [(item.id, item.function.name, item.function.arguments) for item in choice.message.tool_calls or []]
    assert calls == [("t1", "ls", '{"path": "a\\"}é"}'), ("t2", "ls", "{}")]
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (23, 7)


@given(st.data())
def test_a_stream_cut_anywhere_makes_the_same_chunks(data: st.DataObject) -> None:
    whole = anthropic_stream()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[start:end] for start, end in pairwise([0, *cuts, len(whole)])]
    assert chunks_of(*pieces) == chunks_of(whole)


def test_an_anthropic_stream_comes_back_from_chat_as_it_was() -> None:
    back = sunk(chunks_of(anthropic_stream()))
    assert read_by_anthropic(anthropic_stream()) == read_by_anthropic(back)
    assert read_by_anthropic(back)["content"] == ANSWER["content"]


@pytest.mark.parametrize("has_stop", [True, False])
def test_the_end_of_an_answer_is_its_stop_reason(has_stop: bool) -> None:
    """Some servers that speak this dialect leave out the last event."""
    stream = anthropic_stream()
    assert chunks_of(stream if has_stop else stream.removesuffix(event("message_stop")))[-1]["usage"]
    source = DIALECT.source()
    for cut in events_of([stream[: stream.index(b"event: message_delta")]]):
        source.add_event(cut)
    assert not source.is_done


def test_the_mark_of_the_end_is_in_the_end_and_in_no_text() -> None:
    answer = {**ANSWER, "content": [text('say "message_stop"'), use("t", x='"message_stop"')]}
    marked = [event for event in events_of([anthropic_stream(answer)]) if DIALECT.end_marks[0] in event.raw]
    assert [event.event for event in marked] == ["message_stop"]


def test_an_error_within_a_stream_is_an_error() -> None:
    source = DIALECT.source()
    error = {"type": "overloaded_error", "message": "Overloaded"}
    for found in events_of([anthropic_stream()[:300], b"\n\n", event("error", error=error)]):
        source.add_event(found)
    assert source.error == error
    assert not source.is_done


def test_a_call_whose_input_came_at_once_has_its_arguments() -> None:
    stream = event("content_block_start", index=0, content_block=use("t", path="."))
    stream += event("content_block_stop", index=0) + event("message_stop")
    [tool_call] = folded(chunks_of(stream))["choices"][0]["message"]["tool_calls"]
    assert tool_call == call("t", '{"path": "."}')


EVENT_KEYS = [
    "type",
    "index",
    "delta",
    "content_block",
    "message",
    "usage",
    "text",
    "thinking",
    "partial_json",
    "error",
]
EVENT_KINDS = [
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "tool_use",
    "text", "thinking", "redacted_thinking", "error",
]  # fmt: skip
NOISE = st.recursive(
    st.none() | st.integers(-2, 3) | st.sampled_from(EVENT_KINDS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(EVENT_KEYS), inner, max_size=5),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from(EVENT_KEYS), NOISE, max_size=4), max_size=6), st.text(max_size=9))
def test_whatever_a_model_sends_nothing_raises(bodies: list[Json], tail: str) -> None:
    source, sink = DIALECT.source(), DIALECT.sink({})
    for data in [*map(json.dumps, bodies), tail, None, "[" * 9999]:
        for chunk in source.add_event(SseEvent(raw=b"", data=data)):
            sink.add_chunk(chunk)
    for body in bodies:
        sink.add_chunk({"choices": [{"delta": body, "finish_reason": body.get("text")}], **body})
    assert b"message_stop" in sink.finish()


# Chat chunks to Anthropic's events


def chunk(delta: Json, reason: str | None = None, **keys: Any) -> Json:
    return {"id": "c1", "model": "gpt", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **keys}


def calls(*deltas: Json, **keys: Any) -> Json:
    return chunk({"tool_calls": list(deltas)}, **keys)


def begun(index: int, arguments: str = "") -> Json:
    return {"index": index, "id": f"t{index}", "type": "function", "function": {"name": "ls", "arguments": arguments}}


def more(index: int, arguments: str) -> Json:
    return {"index": index, "function": {"arguments": arguments}}


def test_the_anthropic_sdk_reads_a_chat_stream() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "I "}),
        chunk({"reasoning_content": "see"}),
        chunk({"content": "Let "}),
        chunk({"content": "me"}),
        calls(begun(0)),
        calls(more(0, '{"path": ')),
        calls(more(0, '"."}')),
        calls(begun(1, "{}")),
        chunk({}, "tool_calls"),
        {"id": "c1", "choices": [], "usage": usage},
    ]
    message = read_by_anthropic(sunk(chunks))
    assert message["content"] == [
        {"type": "thinking", "thinking": "I see", "signature": SIGNATURE},
        text("Let me"), use("t0", path="."), use("t1"),
    ]  # fmt: skip
    assert (message["stop_reason"], message["model"], message["id"]) == ("tool_use", "gpt", "c1")
    assert message["usage"] == {"input_tokens": 7, "output_tokens": 4, "cache_read_input_tokens": 2}


def test_text_is_passed_on_as_it_comes() -> None:
    sink = DIALECT.sink(request())
    sink.add_chunk(chunk({"role": "assistant"}))
    assert b'"text":"Hel"' in sink.add_chunk(chunk({"content": "Hel"}))
    assert b'"text":"lo"' in sink.add_chunk(chunk({"content": "lo"}))
    assert b"content_block_stop" in sink.add_chunk(chunk({}, "stop"))


def test_calls_whose_deltas_interleave_come_one_after_the_other() -> None:
    chunks = [
        calls(begun(0, '{"a": "}'), begun(1, '{"b"')),
        chunk({"content": "meanwhile"}),
        calls(more(1, ': "\\"}"')),
        calls(more(0, '"'), more(1, "}")),
        calls(more(0, "}"), more(0, " ")),
        chunk({}, "tool_calls"),
    ]
    stream = sunk(chunks)
    assert read_by_anthropic(stream)["content"] == [use("t0", a="}"), use("t1", b='"}'), text("meanwhile")]
    _require_order(stream)


def test_a_call_without_index_id_or_name_is_still_one() -> None:
    """Ollama and older vLLM were seen without indexes; others name a call later than they begin it."""
    chunks = [
        calls({"id": "a", "function": {"name": "ls", "arguments": "{"}}),
        calls({"function": {"arguments": "}"}}),
        calls({"id": "b", "function": {"name": "cat", "arguments": "{}"}}),
        calls({"index": 5, "id": "", "function": {"arguments": "{}"}}),
        calls({"index": 5, "function": {"name": "late"}}),
        chunk({}, "stop"),
    ]
    message = read_by_anthropic(sunk(chunks))
    assert message["content"] == [use("a"), use("b", "cat"), use("toolu_c1_2", "late")]
    assert message["stop_reason"] == "tool_use"


@given(st.sampled_from(["ls -la", '"{\\"path\\": 1}"', "[1]", " null", "{'a': 1}"[1:]]), st.booleans())
def test_arguments_that_are_no_object_reach_the_client_as_in_a_plain_answer(arguments: str, is_first: bool) -> None:
    """The SDK raised on them in the middle of the stream, and the agent ended."""
    odd = [calls(begun(0)), *(calls(more(0, letter)) for letter in arguments)]
    sound = [calls(begun(1, '{"b": ')), calls(more(1, "2}"))]
    chunks = [*odd, *sound] if is_first else [*sound, *odd]
    read = {block["id"]: block["input"] for block in read_by_anthropic(sunk([*chunks, chunk({}, "stop")]))["content"]}
    assert read == {"t0": {"invalid_arguments": arguments}, "t1": {"b": 2}}


@pytest.mark.parametrize("is_one_delta", [True, False])
def test_calls_that_are_all_counted_as_the_first_are_told_apart(is_one_delta: bool) -> None:
    """Gemini's chat endpoint counts so. The second call was lost, the journal had both in one."""
    both = [begun(0, '{"a": 1}'), {**begun(1, '{"b": 2}'), "index": 0}]
    chunks = [*([calls(*both)] if is_one_delta else map(calls, both)), chunk({}, "tool_calls")]
    assert read_by_anthropic(sunk(chunks))["content"] == [use("t0", a=1), use("t1", b=2)]
    assembler = StreamAssembler()
    for one in chunks:
        assembler.add(one)
    message = assembler.answer().message
    assert message is not None
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"a": 1}', '{"b": 2}']


def test_a_call_whose_pieces_have_ids_of_their_own_is_one() -> None:
    """vLLM before 0.9 made a new id for each piece."""
    pieces = [begun(0), {**more(0, '{"a"'), "id": "x"}, {**more(0, ": 1}"), "id": "y"}]
    chunks = [*map(calls, pieces), chunk({}, "tool_calls")]
    assert read_by_anthropic(sunk(chunks))["content"] == [use("t0", a=1)]
    assembler = StreamAssembler()
    for one in chunks:
        assembler.add(one)
    assert (assembler.answer().message or {})["tool_calls"][0]["id"] == "t0"


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_tool_with_a_longer_name_than_chat_takes_is_called_and_comes_back(is_stream: bool) -> None:
    """Anthropic takes 128 characters, and MCP's tools need them; OpenAI and Gemini refused the whole request."""
    name = f"mcp__{'calendar_of_the_whole_office_' * 3}__list"
    asked = request(
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [use("t0", name)]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t0", "content": "x"}]},
        tools=[{"name": name, "input_schema": {}}, {"name": "ls", "input_schema": {}}],
        tool_choice={"type": "tool", "name": name},
    )
    chat = DIALECT.to_chat(asked)
    short = chat["tools"][0]["function"]["name"]
    assert len(short) == 64
    assert chat["tool_choice"]["function"]["name"] == short
    assert chat["messages"][1]["tool_calls"][0]["function"]["name"] == short
    assert answer_identity(chat["messages"][1]) == answer_identity(DIALECT.parse(asked).messages[1])
    called = call("t1", "{}", short)
    if is_stream:
        [said] = read_by_anthropic(sunk([calls({"index": 0, **called})], asked))["content"]
        assert said == use("t1", name)
    else:
        answer = {"id": "a", "choices": [{"message": {"tool_calls": [called]}, "finish_reason": "tool_calls"}]}
        assert DIALECT.answer_from_chat(answer, asked)["content"] == [use("t1", name)]


def test_arguments_that_are_an_object_are_told() -> None:
    chunks = [calls({"index": 0, "id": "t0", "function": {"name": "ls", "arguments": {"a": 1}}}), chunk({}, "stop")]
    assert read_by_anthropic(sunk(chunks))["content"] == [use("t0", a=1)]


def test_an_answer_of_nothing_is_a_message() -> None:
    message = read_by_anthropic(sunk([]))
    assert (message["content"], message["stop_reason"], message["model"]) == ([], "end_turn", "m")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"finish_reason": "length"}, ("max_tokens", None)),
        ({"finish_reason": "content_filter"}, ("refusal", None)),
        ({"finish_reason": "stop", "stop_reason": "END"}, ("stop_sequence", "END")),
        ({"finish_reason": "stop", "stop_reason": "other"}, ("end_turn", None)),
    ],
)
def test_the_reason_of_an_end_is_told(keys: Json, reason: tuple[str, str | None]) -> None:
    last = {"choices": [{"index": 0, "delta": {}, **keys}]}
    message = read_by_anthropic(sunk([chunk({"content": "x"}), last], request(stop_sequences=["END"])))
    assert (message["stop_reason"], message["stop_sequence"]) == reason


def test_a_refusal_is_text_and_a_reason() -> None:
    message = read_by_anthropic(sunk([chunk({"refusal": "I "}), chunk({"refusal": "won't"}), chunk({}, "stop")]))
    assert (message["content"], message["stop_reason"]) == ([text("I won't")], "refusal")


def test_other_choices_are_left_out() -> None:
    second = {"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}
    chunks = [{"choices": [second, {"index": 0, "delta": {"content": "yes"}}]}, chunk({}, "stop")]
    message = read_by_anthropic(sunk(chunks))
    assert (message["content"], message["stop_reason"]) == ([text("yes")], "end_turn")


def test_an_answer_that_breaks_off_is_an_error_to_the_sdk() -> None:
    sink = DIALECT.sink(request())
    stream = sink.add_chunk(chunk({"content": "half"}))
    stream += sink.fail({"type": "error", "error": {"type": "overloaded_error", "message": "the model left"}})
    with pytest.raises(anthropic.APIStatusError, match="the model left"):
        read_by_anthropic(stream)


@st.composite
def chat_streams(draw: st.DrawFn) -> list[Json]:
    """Thinking, text and up to three calls, whose deltas may come in any order."""
    said = st.text(min_size=1, max_size=3)
    queues: list[list[Json]] = [
        [{"reasoning_content": part} for part in draw(st.lists(said, max_size=3))],
        [{"content": part} for part in draw(st.lists(said, max_size=3))],
    ]
    for index in range(draw(st.integers(0, 3))):
        arguments = json.dumps(draw(st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.just([{}]))))
        cut = draw(st.integers(0, len(arguments)))
        parts = [begun(index, arguments[:cut]), *(more(index, letter) for letter in arguments[cut:])]
        queues.append([{"tool_calls": [part]} for part in parts])
    chunks: list[Json] = []
    while queues := [queue for queue in queues if queue]:
        chunks.append(chunk(draw(st.sampled_from(queues)).pop(0)))
    return [*chunks, chunk({}, "stop")]


@given(chat_streams())
def test_the_sdk_reads_from_a_stream_what_the_plain_answer_says(chunks: list[Json]) -> None:
    stream = sunk(chunks)
    _require_order(stream)
    plain = DIALECT.answer_from_chat({"id": "c1", **folded(chunks)}, request())
    assert _gist(read_by_anthropic(stream)) == _gist(plain)


def _gist(message: Json) -> list[object]:
    blocks = message["content"]
    kinds = ("thinking", "text")
    said = ["".join(block[kind] for block in blocks if block["type"] == kind) for kind in kinds]
    uses = sorted((block for block in blocks if block["type"] == "tool_use"), key=lambda block: block["id"])
    return [*said, uses, message["stop_reason"]]


def _require_order(stream: bytes) -> None:
    """One block at a time, numbered from 0, between the beginning and the end of the message."""
    events = [json.loads(event.data or "") for event in events_of([stream])]
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    current, is_open = -1, False
    for found in events[1:-2]:
        if found["type"] == "content_block_start":
            assert not is_open
            current, is_open = current + 1, True
        assert is_open
        assert found["index"] == current
        is_open = found["type"] != "content_block_stop"
    assert not is_open
