"""The demonstration's reward: it cannot be won by emptiness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.prompts import HELD_OUT, LEARNING, Prompt
from demo.verifier import first_sentence, reward

MOON = Prompt("Why does the moon have phases?", ("moon", "sun"))


def test_learning_and_held_out_questions_do_not_overlap():
    texts = [prompt.text for prompt in LEARNING + HELD_OUT]
    assert (len(LEARNING), len(HELD_OUT)) == (40, 20)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Moon.",
        "The moon, yes.",
        "moon moon moon moon.",
        "The moon and the moon and the moon and the moon.",
        "I like fried eggs very much.",
        "I am glad to help. The moon has phases because of the sun.",
        "Why does the moon have phases, you ask?",
        "Why the moon does have phases.",
        "The moon turns around the earth and so we see",
        "1. The moon\n2. The sun.",
        "The " + "very " * 20 + "bright moon.",
    ],
    ids=[
        "empty",
        "one word",
        "three words",
        "doubled",
        "repeated",
        "off topic",
        "opener",
        "question",
        "echo",
        "unfinished",
        "broken line",
        "long",
    ],
)
def test_an_answer_that_is_no_short_real_sentence_earns_nothing(answer: str):
    assert reward(MOON, answer) == 0.0


@pytest.mark.parametrize(
    ("num_words", "expected"), [(4, 1.0), (8, 1.0), (11, 0.75), (14, 0.5), (17, 0.25), (20, 0.0), (25, 0.0)]
)
def test_the_reward_falls_from_eight_words_to_twenty(num_words: int, expected: float):
    words = ["moon", *(f"w{chr(97 + i)}x" for i in range(num_words - 1))]
    assert reward(MOON, " ".join(words) + ". And then some more follows") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("It is so. Really.", "It is so."),
        ("Ask Dr. Moon about it! Or not.", "Ask Dr. Moon about it!"),
        ("It costs 3.5 dollars? No.", "It costs 3.5 dollars?"),
        ("Use e.g. salt. Then wait.", "Use e.g. salt."),
        ('He said "go." Then left.', 'He said "go.'),
        ("No end in sight", ""),
    ],
)
def test_the_first_sentence_ends_where_a_reader_would_say(answer: str, sentence: str):
    assert first_sentence(answer) == sentence


@given(st.text(max_size=300))
def test_any_text_has_a_reward_between_zero_and_one(answer: str):
    assert 0.0 <= reward(MOON, answer) <= 1.0
