"""Answers read as thinking, text and tool calls, in every model family and however the tokens arrive."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metaclaw.rendering.answer_reader import Parts
from metaclaw.rendering.calls import ToolCall
from tests.rendering.families import TOOLS, family

KINDS = ["special", "added", "text"]
CALL = '<tool_call>\n{"name": "look_up", "arguments": {"n": 5}}\n</tool_call>'
LOOK_UP = ToolCall(name="look_up", arguments='{"n": 5}')


def joined(pieces):
    return Parts(
        thinking="".join(piece.thinking for piece in pieces),
        text="".join(piece.text for piece in pieces),
        calls=tuple(call for piece in pieces for call in piece.calls),
    )


def read(renderer, answer, cuts=(), tools=TOOLS, **how):
    """The parts of ``answer`` (text, or tokens), pushed in pieces that end at ``cuts``."""
    tokens = renderer.tokenizer.encode(answer, add_special_tokens=False) if isinstance(answer, str) else answer
    reader = renderer.reader(tools, end_tokens={renderer.tokenizer.eos_token_id}, **how)
    ends = [0, *sorted(min(cut, len(tokens)) for cut in cuts), len(tokens)]
    pieces = [reader.push(tokens[start:end]) for start, end in itertools.pairwise(ends)]
    return joined([*pieces, reader.finish()]), reader


@pytest.mark.parametrize("tags", KINDS)
@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("Hello.", Parts(text="Hello.")),
        ("  Hello.\n", Parts(text="  Hello.\n")),
        ("<think>\nHm.\n</think>\n\nHello.", Parts(thinking="Hm.", text="Hello.")),
        ("<think>\n\n</think>\n\nHello.", Parts(text="Hello.")),
        ("\n<think>Hm, <tool_call></think>", Parts(thinking="Hm, <tool_call>")),
        ("<think>\nHm. I", Parts(thinking="Hm. I")),
        ("<thi", Parts(text="<thi")),
        (CALL, Parts(calls=(LOOK_UP,))),
        (f"{CALL}\n{CALL}\n", Parts(calls=(LOOK_UP, LOOK_UP))),
        (f"<think>\nHm.\n</think>\n\nI see.\n{CALL}", Parts(thinking="Hm.", text="I see.", calls=(LOOK_UP,))),
        (f"{CALL}\nDone.", Parts(text="\nDone.", calls=(LOOK_UP,))),
    ],
)
def test_an_answer_falls_into_its_parts(tags, answer, parts):
    assert read(family("qwen3", tags=tags), answer)[0] == parts


@pytest.mark.parametrize("tags", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        "I see.\n<tool_call>\n{\"name\": \"look_up\", \"argum",  # cut off by the length limit
        "<tool_call>\n{\"name\": \"look_up\", \"arguments\": {\"n\": }}\n</tool_call> Oh.",
        "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>",  # not offered
        "<tool_call>{\"name\": \"look_up\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"look_up\", \"arguments\": {\"n\": NaN}}</tool_call>",
        "<tool_call>{\"name\": \"look_up\", \"arguments\": {\"n\": 1e999}}</tool_call>",
        "<tool_call>" + "[" * 20_000 + "</tool_call>",
        "<tool_call>" + "9" * 5_000 + "</tool_call>",
        "</tool_call>",
        "Hi. <think>Hm.</think>",
    ],
)  # fmt: skip
def test_what_is_no_call_and_no_thinking_stays_text_to_the_last_character(tags, answer):
    assert read(family("qwen3", tags=tags), answer)[0] == Parts(text=answer)


@pytest.mark.parametrize("tags", ["special", "added"])
def test_a_tag_that_is_written_out_where_the_vocabulary_has_a_token_for_it_is_a_quotation(tags):
    """PITFALLS, faults: quoted <tool_call> text in an answer becomes a real tool call."""
    renderer = family("qwen3", tags=tags)
    quoted = [token for letter in f"<think>\n{CALL}" for token in renderer.tokenizer.encode(letter)]
    assert read(renderer, quoted)[0] == Parts(text=f"<think>\n{CALL}")


@pytest.mark.parametrize("answer", [f"Write `{CALL}` to call.", f" {CALL}"])
def test_where_tags_are_text_one_within_a_line_is_a_quotation(answer):
    """PITFALLS, faults: quoted <tool_call> text in an answer becomes a real tool call."""
    assert read(family("qwen3", tags="text"), answer)[0] == Parts(text=answer)


@pytest.mark.parametrize("tags", KINDS)
def test_without_tools_there_are_no_calls(tags):
    assert read(family("qwen3", tags=tags), CALL, tools=[])[0] == Parts(text=CALL)


@pytest.mark.parametrize("tags", KINDS)
def test_a_model_that_knows_no_tags_writes_text(tags):
    parts, _ = read(family("chatml", tags="text"), f"<think>a</think>{CALL}")
    assert parts == Parts(text=f"<think>a</think>{CALL}")


@pytest.mark.parametrize("tags", KINDS)
def test_thinking_that_the_prompt_has_opened(tags):
    renderer = family("opened", tags=tags)
    assert renderer.prompt([{"role": "user", "content": "x"}]).starts_thinking
    assert read(renderer, "Hm.\n</think>\n\nHi", starts_thinking=True)[0] == Parts(thinking="Hm.", text="Hi")
    assert read(renderer, "Hm. Hi", starts_thinking=True)[0] == Parts(thinking="Hm. Hi")


@pytest.mark.parametrize("tags", KINDS)
def test_calls_as_qwen3_coder_writes_them_have_the_types_of_the_schema(tags):
    body = "<function=look_up>\n<parameter=n>\n5\n</parameter>\n<parameter=q>\n5\n6\n</parameter>\n</function>"
    parts, _ = read(family("opened", tags=tags), f"</think>\n<tool_call>\n{body}\n</tool_call>", starts_thinking=True)
    assert [json.loads(call.arguments) for call in parts.calls] == [{"n": 5, "q": "5\n6"}]
    broken = f"<tool_call>\n{body[:-4]}\n</tool_call>"
    assert read(family("opened", tags=tags), f"</think>{broken}", starts_thinking=True)[0] == Parts(text=broken)


def test_calls_as_llama_writes_them_are_the_whole_answer():
    renderer = family("llama")
    call = '{"name": "look_up", "parameters": {"n": 5}}'
    assert read(renderer, call)[0] == Parts(calls=(LOOK_UP,))
    assert read(renderer, f"<|python_tag|>{call}; {call}")[0] == Parts(calls=(LOOK_UP, LOOK_UP))
    assert read(renderer, f"Say {call}")[0] == Parts(text=f"Say {call}")
    assert read(renderer, '{"a": 1}')[0] == Parts(text='{"a": 1}')


@pytest.mark.parametrize("tags", KINDS)
def test_one_call_at_most_when_the_client_wants_no_parallel_ones(tags):
    parts, _ = read(family("qwen3", tags=tags), f"{CALL}\n{CALL}", max_calls=1)
    assert parts == Parts(text=f"\n{CALL}", calls=(LOOK_UP,))


WORDS = ["<think>", "</think>", "<tool_call>", "</tool_call>", CALL, "\n", " ", "Hi", "🦀", "é", "{", "<", "<|im_end|>"]
ANSWERS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=8).map("".join)
CUTS = st.lists(st.integers(0, 120), max_size=8)


@settings(max_examples=200)
@given(ANSWERS, CUTS, st.sampled_from(KINDS), st.booleans(), st.lists(st.sampled_from(["Hi", "think>", "\n\n"])))
@example(f"<think>a</think> {CALL} b", list(range(120)), "added", False, [])
def test_however_the_tokens_are_cut_the_same_parts_come_out(answer, cuts, tags, starts_thinking, stops):
    renderer = family("qwen3", tags=tags)
    how = {"starts_thinking": starts_thinking, "stops": stops}
    whole, reader = read(renderer, answer, **how)
    pieces, in_pieces = read(renderer, answer, cuts, **how)
    singly, _ = read(renderer, answer, range(len(answer) * 4), **how)
    if not stops:  # of overlapping stop strings the one that is complete first wins
        assert pieces == whole == singly
        assert reader.spans() == in_pieces.spans()
    shown = pieces.thinking + "\0" + pieces.text
    assert not any(stop in part for stop in stops for part in shown.split("\0"))
    assert not any("\ud800" <= character <= "\udfff" for character in shown)


@given(ANSWERS, st.sampled_from(KINDS))
def test_spans_cover_every_token_once_and_decode_to_their_parts(answer, tags):
    renderer = family("qwen3", tags=tags)
    tokens = renderer.tokenizer.encode(answer, add_special_tokens=False)
    parts, reader = read(renderer, tokens)
    spans = reader.spans()
    assert [place for _, start, end in spans for place in range(start, end)] == list(range(len(tokens)))
    calls = "".join(renderer.tokenizer.decode(tokens[start:end]) for kind, start, end in spans if kind == "calls")
    assert calls.count('"name"') == len(parts.calls)
    thinking = "".join(renderer.tokenizer.decode(tokens[start:end]) for kind, start, end in spans if kind == "think")
    assert parts.thinking in thinking or "<|im_" in answer


def test_the_spans_of_an_answer_that_thinks_speaks_and_calls():
    renderer = family("qwen3")
    _, reader = read(renderer, f"<think>ab</think>\n\nHi\n{CALL}<|im_end|>")
    length = len(CALL) - len("<tool_call></tool_call>") + 2
    assert reader.spans() == [
        ("think", 0, 6), ("text", 6, 9), ("calls", 9, 9 + length), ("end", 9 + length, 10 + length)
    ]  # fmt: skip
