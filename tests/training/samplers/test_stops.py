"""Stop tokens and stop strings, with a real byte-level tokenizer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.training.samplers.stops import StopWatch
from tests.fakes.tiny_model import byte_tokenizer

TOKENIZER = byte_tokenizer()


def decode(tokens) -> str:
    return TOKENIZER.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def tokens_until_stop(text: str, *stops: str) -> int | None:
    """How many of the text's tokens are taken until the watch says stop."""
    watch = StopWatch((), stops, decode)
    for count, token in enumerate(TOKENIZER.encode(text), start=1):
        if watch.is_last(token):
            return count
    return None


@settings(deadline=None, max_examples=150)
@given(
    text=st.text(alphabet="ab\u00e9\u20ac\U0001f600 \n", max_size=24),
    stop=st.text(alphabet="ab\u00e9\u20ac\U0001f600", min_size=1, max_size=4),
)
def test_a_stop_string_ends_with_the_token_that_completes_it(text: str, stop: str) -> None:
    """Fork B8: stop strings were cut into single tokens. Here each byte is a token, so every string spans several."""
    end = text.find(stop)
    expected = None if end < 0 else len((text[:end] + stop).encode())
    assert tokens_until_stop(text, stop) == expected


def test_the_first_of_several_stop_strings_counts() -> None:
    assert tokens_until_stop("one two three", "three", "wo") == len("one two")


def test_a_stop_string_can_be_a_special_token() -> None:
    watch = StopWatch((), ["<|im_end|>"], decode)
    assert [watch.is_last(token) for token in TOKENIZER.encode("hi<|im_end|>")] == [False, False, True]


def test_stop_tokens_need_no_tokenizer() -> None:
    watch = StopWatch((7, 9))
    assert [watch.is_last(token) for token in (1, 8, 9)] == [False, False, True]
    assert not StopWatch(()).is_last(9)


def test_bytes_that_never_become_text_do_not_pile_up() -> None:
    asked: list[int] = []

    def counting(tokens) -> str:
        asked.append(len(tokens))
        return decode(tokens)

    watch = StopWatch((), ["end"], counting)
    broken = TOKENIZER.encode("\u20ac")[0]
    for _ in range(200):
        assert not watch.is_last(broken)
    assert max(asked) <= 16
    assert [watch.is_last(token) for token in TOKENIZER.encode("end")] == [False, False, True]
