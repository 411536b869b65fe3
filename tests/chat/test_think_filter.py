"""Thinking that a model left in its text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.chat.think_filter import ThinkFilter, without_think_block

PIECES = ["<think>", "</think>", "hm", " ", "\n", "<", "think", ">", "a < b", "</", "Paris"]


def chunk(text: str | None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def streamed(pieces: list[str]) -> dict[str, Any]:
    kept, filtered = StreamAssembler(), ThinkFilter()
    for sent in [*(chunk(piece) for piece in pieces), chunk(None, "stop")]:
        for passed in filtered.add(sent):
            kept.add(passed)
    assert kept.answer().finish_reason == "stop"
    return kept.answer().message or {}


def whole(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return without_think_block({"choices": [choice]})["choices"][0]["message"]


@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join), st.lists(st.integers(0, 200), max_size=6))
def test_a_stream_says_what_the_whole_answer_says_wherever_it_is_cut(text: str, cuts: list[int]) -> None:
    bounds = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    message = streamed([text[a:b] for a, b in pairwise(bounds)])
    expected = whole(text)
    assert (message.get("content") or "") == expected["content"]
    assert (message.get("reasoning_content") or "") == expected.get("reasoning_content", "")


def test_thinking_comes_before_the_text_in_a_delta_of_its_own() -> None:
    message = streamed(["<thi", "nk>\nLet me", " see.\n</th", "ink>\n\nPar", "is."])
    assert message["reasoning_content"] == "Let me see."
    assert message["content"] == "Paris."


def test_an_answer_without_a_think_block_is_the_same_object() -> None:
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "The tag is <think>."}}]}
    assert without_think_block(answer) is answer


def test_two_answers_of_one_request_are_split_apart() -> None:
    filtered, kept = ThinkFilter(), {0: StreamAssembler(), 1: StreamAssembler()}
    for index, text in [(0, "<think>a"), (1, "plain "), (0, "</think>b"), (1, "<think>")]:
        sent = {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}]}
        for passed in filtered.add(sent):
            for choice in passed["choices"]:
                kept[choice["index"]].add({"choices": [{**choice, "index": 0}]})
    messages = [kept[index].answer().message or {} for index in (0, 1)]
    assert (messages[0]["reasoning_content"], messages[0]["content"]) == ("a", "b")
    assert messages[1]["content"] == "plain <think>"


def test_thinking_that_is_a_part_of_the_content_is_thinking() -> None:
    """Mistral's models that reason answer so, and clients of other dialects got nothing of it."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    filtered, kept = ThinkFilter(), StreamAssembler()
    for content in ([thought], [{"type": "text", "text": "Par"}], "is"):
        for passed in filtered.add({"choices": [{"index": 0, "delta": {"content": content}}]}):
            kept.add(passed)
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "Paris"}]}
    plain = without_think_block({"choices": [{"index": 0, "message": said}]})["choices"][0]["message"]
    expected = {"role": "assistant", "content": "Paris", "reasoning_content": "hm"}
    assert plain == kept.answer().message == expected
