"""Server-sent events, wherever the network cuts them."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.chat_stream import ChatSource
from metaclaw.chat.sse import SseEvent, SseParser, last_boundary
from metaclaw.chat.stream_assembler import StreamAssembler

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
LINE_END = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[str | None]]:
    """The bytes of some events and the data of each."""
    raw, datas = "", []
    for lines in draw(st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=5)):
        end = draw(LINE_END)
        prefix = draw(st.sampled_from(["data: ", ": "]))
        raw += "".join(f"{prefix}{line}{end}" for line in lines) + end
        datas.append("\n".join(lines) if prefix == "data: " else None)
    return raw.encode(), datas


def parsed_in_pieces(raw: bytes, cuts: list[int]) -> list[SseEvent]:
    parser = SseParser()
    bounds = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    events = [event for a, b in itertools.pairwise(bounds) for event in parser.feed(raw[a:b])]
    return events + parser.finish()


@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
def test_the_same_events_come_out_wherever_the_stream_is_cut(
    stream: tuple[bytes, list[str | None]], cuts: list[int]
) -> None:
    raw, datas = stream
    events = parsed_in_pieces(raw, cuts)
    assert [event.data for event in events if event.data is not None] == [data for data in datas if data is not None]
    joined = b"".join(event.raw for event in events)
    assert raw.startswith(joined)
    assert not raw[len(joined) :].strip()  # half of the last line end, where it was cut


@given(streams())
def test_one_byte_at_a_time_is_enough(stream: tuple[bytes, list[str | None]]) -> None:
    raw, datas = stream
    events = parsed_in_pieces(raw, list(range(len(raw))))
    assert [event.data for event in events if event.data is not None] == [data for data in datas if data is not None]


@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
def test_what_ends_at_a_boundary_is_whole_events(stream: tuple[bytes, list[str | None]], cuts: list[int]) -> None:
    raw, _ = stream
    for cut in cuts:
        part = raw[: cut % (len(raw) + 1)]
        parser = SseParser()
        parser.feed(part[: last_boundary(part)])
        assert not parser.rest().strip()


def test_half_a_line_end_is_no_blank_line() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\ndata: b\r\n") == []
    assert [event.data for event in parser.feed(b"\r\n")] == ["a\nb"]


def test_a_mark_of_the_byte_order_hides_no_event() -> None:
    [event] = SseParser().feed(b"\xef\xbb\xbfdata: first\n\n")
    assert event.data == "first"


def test_an_event_without_its_blank_line_is_given_at_the_end() -> None:
    parser = SseParser()
    assert parser.feed(b"event: x\ndata: last") == []
    [event] = parser.finish()
    assert (event.event, event.data) == ("x", "last")
    assert parser.finish() == []


@given(st.lists(st.integers(0, 10_000), max_size=6))
def test_a_message_is_the_same_wherever_its_stream_is_cut(cuts: list[int]) -> None:
    deltas = [
        {"role": "assistant", "content": "Grüß "},
        {"content": "dich 😀", "reasoning_content": "kind"},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "two", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "one", "arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}], "reasoning_content": "ly"},
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": {"total_tokens": 3}})
    raw = b"".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode() for chunk in chunks)
    events = parsed_in_pieces(raw + b"data: [DONE]\n\n", cuts)
    source, assembler = ChatSource(), StreamAssembler()
    for event in events:
        for chunk in source.add_event(event):
            assembler.add(chunk)
    answer = assembler.answer()
    assert answer.message == {
        "role": "assistant",
        "content": "Grüß dich 😀",
        "reasoning_content": "kindly",
        "tool_calls": [
            {"type": "function", "id": "a", "function": {"name": "one", "arguments": '{"x": 1}'}},
            {"type": "function", "id": "b", "function": {"name": "two", "arguments": ""}},
        ],
    }
    assert (answer.finish_reason, answer.usage, source.is_done) == ("tool_calls", {"total_tokens": 3}, True)


def test_what_a_model_calls_and_says_aloud_in_pieces_is_whole() -> None:
    """OpenAI's calls before ``tool_calls``, and its voice: the journal had the last piece alone."""
    deltas: list[dict[str, Any]] = [
        {"function_call": {"name": "ls", "arguments": ""}},
        {"function_call": {"arguments": '{"a"'}},
        {"function_call": {"arguments": ": 1}"}},
        {"audio": {"id": "a1", "transcript": "hel"}},
        {"audio": {"transcript": "lo", "data": "AA"}},
        {"audio": {"data": "BB", "expires_at": 5}},
    ]
    assembler = StreamAssembler()
    for delta in deltas:
        assembler.add({"choices": [{"index": 0, "delta": delta}]})
    message = assembler.answer().message or {}
    assert message["function_call"] == {"name": "ls", "arguments": '{"a": 1}'}
    assert message["audio"] == {"id": "a1", "transcript": "hello", "data": "AABB", "expires_at": 5}


def test_tool_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    """PITFALLS P1: tool call deltas that lack an index."""
    assembler = StreamAssembler()
    for call in ({"id": "a", "function": {"name": "f", "arguments": "{"}}, {"function": {"arguments": "}"}},
                 {"id": "b", "function": {"name": "g", "arguments": "{}"}}):  # fmt: skip
        assembler.add({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    message = assembler.answer().message
    assert message is not None
    assert [(call["id"], call["function"]["arguments"]) for call in message["tool_calls"]] == [("a", "{}"), ("b", "{}")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "index", "tool_calls", "function", "usage", "error", "content"]), inner
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["choices", "usage", "error", "policy_record"]), JSON))
def test_no_chunk_breaks_the_assembler(chunk: dict[str, object]) -> None:
    assembler = StreamAssembler()
    assembler.add(chunk)
    assembler.answer()
