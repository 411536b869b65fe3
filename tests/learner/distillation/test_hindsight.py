"""What the user said next, put into the recorded prompt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.learner.distillation.hindsight import is_informative, same_but_hinted

tokens = st.lists(st.integers(0, 9), max_size=6)
END = [100, 101]  # the end of the human's message and the beginning of an answer
HINT = [50, 51, 52]


@settings(max_examples=40)
@given(before=tokens, text=tokens, recalled=tokens, after=tokens)
def test_the_words_stand_after_what_was_recalled_and_nothing_else_changes(before, text, recalled, after):
    plain = [*before, *text, *END, *after]
    hinted = [*before, *text, *HINT, *END, *after]
    recorded = [*before, *text, *recalled, *END, *after]
    assert same_but_hinted(recorded, plain, hinted) == [*before, *text, *recalled, *HINT, *END, *after]


def test_a_token_that_grew_together_with_the_words_is_told_with_them():
    assert same_but_hinted([1, 2, 7, *END], [1, 2, *END], [1, 29, *HINT, *END]) == [1, 2, 7, 29, *HINT, *END]


def test_a_prompt_that_ends_otherwise_than_it_is_rendered_now_has_none():
    plain, hinted = [1, 2, *END], [1, 2, *HINT, *END]
    assert same_but_hinted([1, 2, 100, 7], plain, hinted) is None
    longer = [3, 4, 5, 6, 7, 8]
    assert same_but_hinted([1, 2, *END, 9, *longer[3:]], [*plain, *longer], [*hinted, *longer]) is None


@pytest.mark.parametrize(
    ("said", "was_bad", "counts"),
    [
        ("no, I meant the second file of the two", False, True),
        ("please use tabs in all of them instead", True, True),
        ("please use tabs in all of them instead", False, False),
        ("that's wrong", True, False),
        ("不对,请把第二个文件改成制表符", False, True),
        ("thanks", True, False),
        ("", True, False),
        (None, True, False),
    ],
)
def test_only_what_says_what_was_wrong_is_learned_from(said, was_bad, counts):
    assert is_informative(said, was_bad=was_bad) is counts
