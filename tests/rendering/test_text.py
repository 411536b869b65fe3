"""Tokens to text, piece by piece, and where an answer's text ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.rendering.detokenizer import Detokenizer
from metaclaw.rendering.renderer import Renderer
from metaclaw.rendering.stops import StopCutter
from tests.fakes.tiny_model import SPECIAL, byte_tokenizer

TOKENIZER = byte_tokenizer()
END = TOKENIZER.eos_token_id


def in_pieces(tokens):
    detokenizer = Detokenizer(TOKENIZER)
    pieces = [detokenizer.push([token]) for token in tokens]
    return [*pieces, detokenizer.finish()]


@given(st.text().filter(lambda text: not any(special in text for special in SPECIAL)))
def test_pieces_joined_are_the_text_and_none_ends_inside_a_character(text):
    pieces = in_pieces(TOKENIZER.encode(text))
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=200)
@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=30))
def test_any_tokens_give_the_text_of_all_at_once_without_special_tokens(tokens):
    text = "".join(in_pieces(tokens))
    assert text == TOKENIZER.decode(tokens, skip_special_tokens=True)
    assert "<|im_end|>" not in text


def test_a_character_of_four_bytes_is_held_back_until_its_last_byte():
    assert in_pieces(TOKENIZER.encode("a🦀")) == ["a", "", "", "", "🦀", ""]


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_the_text_is_cut_before_the_first_stop_string_however_it_arrives(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    cutter = StopCutter(stops)
    out = "".join(cutter.push(text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True))
    out += cutter.finish()
    starts = [index for stop in stops if (index := text.find(stop)) >= 0]
    # Of overlapping stop strings the one that is complete first wins, which depends on how the text arrives.
    assert out in ([text[:start] for start in starts] or [text])
    assert cutter.has_stopped == bool(starts)
    assert not any(stop in out for stop in stops)


def test_what_may_become_a_stop_string_is_held_back_and_given_out_when_it_did_not():
    cutter = StopCutter(["END"])
    assert [cutter.push("say E"), cutter.push("N"), cutter.push("tire"), cutter.push("EN"), cutter.finish()] == [
        "say ", "", "ENtire", "", "EN",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "spans"),
    [([], []), ([1, 2], [("text", 0, 2)]), ([1, END], [("text", 0, 1), ("end", 1, 2)]), ([END], [("end", 0, 1)])],
)
def test_spans_tell_the_text_from_the_token_that_ended_it(tokens, spans):
    reader = Renderer(TOKENIZER, "digest").reader(end_tokens={END})
    reader.push(tokens)
    reader.finish()
    assert reader.spans() == spans


@given(st.text(min_size=1, max_size=20))
def test_the_bytes_of_tokens_joined_are_the_bytes_of_the_text(text):
    renderer = Renderer(TOKENIZER, "digest")
    assert b"".join(renderer.token_bytes(token) for token in TOKENIZER.encode(text)) == text.encode()
