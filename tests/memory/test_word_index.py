"""What a unit is indexed by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.memory.word_index import index_words


@given(st.text())
def test_no_word_has_a_blank_or_the_end_of_a_line(text: str) -> None:
    assert all(word.split() == [word] for word in index_words(text))


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_without_words_is_indexed_by_none(text: str) -> None:
    assert index_words(text) == ()
