"""A stream on its way through, wherever the network cuts it."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.dialect import Dialect
from metaclaw.chat.dialects import ANTHROPIC, CHAT, COMPLETIONS, RESPONSES
from metaclaw.chat.sse import SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.gateway.passages import Passage, Translated, passage

CUTS = st.lists(st.integers(0, 10_000), max_size=8)


def stream(*texts: str, done: bool = True, calls: bool = False) -> bytes:
    chunks: list[dict[str, Any]] = [{"index": 0, "delta": {"role": "assistant", "content": ""}}]
    chunks += [{"index": 0, "delta": {"content": text}} for text in texts]
    if calls:
        call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        chunks.append({"index": 0, "delta": {"tool_calls": [call]}})
    chunks.append({"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"})
    events = [b"data: " + json.dumps({"id": "c", "choices": [chunk]}).encode() + b"\n\n" for chunk in chunks]
    return b": hello\n\n" + b"".join(events) + (b"data: [DONE]\n\n" if done else b"")


def through(way: Passage, raw: bytes, cuts: list[int]) -> bytes:
    bounds = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    out = b"".join(way.feed(raw[a:b]) for a, b in pairwise(bounds))
    return out + way.finish()


def said(raw: bytes) -> dict[str, Any]:
    source, parser, kept = CHAT.source(), SseParser(), StreamAssembler()
    for event in [*parser.feed(raw), *parser.finish()]:
        for chunk in source.add_event(event):
            kept.add(chunk)
    assert source.is_done
    return kept.answer().message or {}


def chat_to_chat(*, is_policy: bool = False) -> Passage:
    return passage(CHAT, CHAT, {}, "text/event-stream", errors="openai", is_policy=is_policy)


@given(st.lists(st.sampled_from(["Hi", " < ", "<b>", "\n", "[DONE]", "Grüße"]), max_size=5), st.booleans(), CUTS)
def test_an_answer_without_thinking_passes_byte_for_byte(texts: list[str], calls: bool, cuts: list[int]) -> None:
    raw = stream(*texts, calls=calls)
    way = chat_to_chat()
    assert through(way, raw, cuts) == raw
    outcome = way.outcome()
    assert outcome.is_done
    assert way.has_end
    assert outcome.raw is not None
    assert outcome.raw.body == raw


@given(st.sampled_from(["<think>hm</think>Paris", "\n<think>a\nb</think>\n\nParis"]), CUTS, CUTS)
def test_thinking_is_taken_out_however_it_is_cut(text: str, pieces: list[int], cuts: list[int]) -> None:
    bounds = sorted({0, len(text), *(cut % (len(text) + 1) for cut in pieces)})
    raw = stream(*(text[a:b] for a, b in pairwise(bounds)))
    way = chat_to_chat()
    message = said(through(way, raw, cuts))
    assert message["content"] == "Paris"
    assert message["reasoning_content"] == ("hm" if "hm" in text else "a\nb")
    outcome = way.outcome()
    assert outcome.answer is not None
    assert outcome.answer.message == message, "the journal keeps what the client saw"


@pytest.mark.parametrize("first", ["<think>no</think>Rome", "Rome"])
def test_each_of_several_answers_is_looked_at_for_itself(first: str) -> None:
    pieces = [(0, first[:4]), (1, "<thi"), (0, first[4:]), (1, "nk>hm</think>Paris")]
    chunks: list[dict[str, Any]] = [{"index": index, "delta": {"content": piece}} for index, piece in pieces]
    chunks += [{"index": index, "delta": {}, "finish_reason": "stop"} for index in (0, 1)]
    raw = b"".join(b"data: " + json.dumps({"id": "c", "choices": [chunk]}).encode() + b"\n\n" for chunk in chunks)
    way = passage(CHAT, CHAT, {"n": 2}, "text/event-stream", errors="openai", is_policy=False)
    kept = StreamAssembler()
    for event in SseParser().feed(through(way, raw + b"data: [DONE]\n\n", [])):
        for chunk in CHAT.source().add_event(event):
            kept.add(chunk)
    answer = kept.answer()
    assert answer.message is not None
    assert answer.message["content"] == "Rome"
    [other] = answer.others
    assert (other["message"]["reasoning_content"], other["message"]["content"]) == ("hm", "Paris")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_large_event_costs_no_more_for_coming_in_many_pieces(line_end: bytes) -> None:
    """A picture of 8 MB in one event of a response took 6 s of the loop, when all that had come was searched again."""
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "A" * 2_000_000}
    response = {"id": "resp_1", "object": "response", "status": "completed", "output": [item], "usage": None}
    data = json.dumps({"type": "response.completed", "response": response}).encode()
    raw = b"event: response.completed" + line_end + b"data: " + data + 2 * line_end
    way = passage(RESPONSES, RESPONSES, {}, "text/event-stream", errors="openai", is_policy=False)
    began_s = time.thread_time()
    passed = [way.feed(raw[at : at + 1000]) for at in range(0, len(raw), 1000)]
    assert time.thread_time() - began_s < 1.5
    assert passed == [b""] * (len(passed) - 1) + [raw]
    assert way.has_end


def test_a_call_after_a_blank_is_not_held_back() -> None:
    raw = stream("\n", calls=True, done=False)
    way = chat_to_chat()
    assert b"tool_calls" in way.feed(raw)


def test_the_policy_record_stays_with_us() -> None:
    record = {"id": "c", "choices": [], "policy_record": {"model": "m"}}
    raw = stream("Hi", done=False) + b"data: " + json.dumps(record).encode() + b"\n\ndata: [DONE]\n\n"
    way = chat_to_chat(is_policy=True)
    out = through(way, raw, [])
    assert b"policy_record" not in out
    assert said(out)["content"] == "Hi"
    answer = way.outcome().answer
    assert answer is not None
    assert answer.policy_record == {"model": "m"}


@pytest.mark.parametrize("client", [ANTHROPIC, RESPONSES, COMPLETIONS])
def test_choices_that_make_no_sense_end_no_stream(client: Dialect) -> None:
    strange = [{"index": [], "delta": [], "finish_reason": [None]}, {"index": {}, "delta": {"content": {}}}, None, "x"]
    events = [b"data: " + json.dumps({"id": [], "choices": [it]}).encode() + b"\n\n" for it in strange]
    way = passage(client, CHAT, {}, "text/event-stream", errors="openai", is_policy=False)
    assert b"Hi" in through(way, b"".join(events) + stream("Hi"), [])


def test_a_model_that_only_says_that_it_is_at_it_is_heard_of() -> None:
    """What stands between ends a connection on which nothing comes, while a model thinks for minutes."""
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    to_chat = passage(CHAT, ANTHROPIC, {}, "text/event-stream", errors="openai", is_policy=False)
    to_anthropic = passage(ANTHROPIC, CHAT, {}, "text/event-stream", errors="anthropic", is_policy=False)
    heard = [to_chat.feed(ping), to_anthropic.feed(b": OPENROUTER PROCESSING\n\n")]
    assert [[(event.data, event.event) for event in SseParser().feed(it)] for it in heard] == [[(None, None)]] * 2
    assert b"event: content_block_delta" in to_anthropic.feed(stream("Hi", done=False))
    assert to_anthropic.feed(b"data: [DONE]\n\n") == b""


@pytest.mark.parametrize("is_policy", [False, True])
def test_an_error_inside_the_stream_reaches_the_client_and_the_journal(is_policy: bool) -> None:
    raw = stream("Hi", done=False).rsplit(b"data: ", 1)[0] + b'data: {"error": {"message": "out of memory"}}\n\n'
    way = chat_to_chat(is_policy=is_policy)
    assert b"out of memory" in through(way, raw, [])
    outcome = way.outcome()
    assert outcome.error == {"message": "out of memory"}
    assert not outcome.is_done


def test_a_stream_that_just_stops_is_not_done() -> None:
    raw = stream("Hi", done=False).rsplit(b"data: ", 1)[0]
    for way in (chat_to_chat(), Translated(CHAT, CHAT.sink({}), "openai")):
        assert b"[DONE]" not in through(way, raw, [])
        assert not way.outcome().is_done
