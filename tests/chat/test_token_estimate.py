"""Estimates of tokens, beside what tokenizers count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.chat.anthropic.counting import estimate_request
from metaclaw.chat.token_estimate import estimate_tokens
from tests.chat.anthropic_material import PIXEL, TOOL, assistant, image, request, result, text, use, user

# The most that cl100k, o200k and the tokenizer that Anthropic published make of it.
COUNTED = [
    ("The quick brown fox jumps over the lazy dog, and then it goes home to sleep.", 18),
    ("人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。", 50),
    ("すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。", 45),
    ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", 44),
    ("Все люди рождаются свободными и равными в своем достоинстве и правах.", 40),
    ("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", 19),
    ("يولد جميع الناس أحراراً متساوين في الكرامة والحقوق.", 45),
    ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।", 93),
    ("def total(items: list[int]) -> int:\n    return sum(item * 2 for item in items if item > 10)\n", 29),
    ('{"name": "ls", "arguments": {"path": "/home/ann/notes.txt", "limit": 25, "hidden": false}}', 31),
    ("| 12 | 7 | 93 | 41 |\n| 5 | 88 | 16 | 2 |\n", 26),
    ("2026-11-25T08:12:33.120Z ERROR connection 10.0.14.7:55012 refused (errno=111)", 34),
]


@pytest.mark.parametrize(("words", "counted"), COUNTED)
def test_ordinary_text_takes_no_more_than_estimated_and_not_much_less(words: str, counted: int) -> None:
    """PITFALLS B4-11: budgets counted what stands between blanks, and so nothing in Chinese."""
    assert counted <= estimate_tokens(words) <= 2 * counted


@given(st.text(), st.text())
def test_any_text_takes_a_bounded_number_of_tokens(first: str, second: str) -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens(first) <= 3 * len(first) + 1
    assert estimate_tokens(first) * 4 >= len(first)
    assert estimate_tokens(first + second) * 5 >= (estimate_tokens(first) - 1) * 4


def test_a_few_arrows_do_not_make_it_another_language() -> None:
    english = COUNTED[0][0] * 10
    assert estimate_tokens(english + " →") - estimate_tokens(english) <= 3


def test_all_of_a_request_counts() -> None:
    body = request(user("hi"))
    alone = estimate_request(body)
    longer = "a longer text of several words"
    for more in (
        request(user("hi"), system=longer),
        request(user("hi"), system=[text(longer)]),
        request(user([text("hi"), text(longer)])),
        request(user("hi"), assistant([{"type": "thinking", "thinking": longer, "signature": "s"}])),
        request(user("hi"), assistant([use("t", path=longer)])),
        request(user("hi"), user([result("t", longer)])),
        request(user("hi"), user([result("t", [text(longer)])])),
        request(user("hi"), tools=[{**TOOL, "description": longer}]),
    ):
        assert estimate_request(more) >= alone + estimate_tokens(longer)


def test_a_picture_counts_as_a_picture_and_not_as_its_letters() -> None:
    large = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL * 100_000}}
    assert estimate_request(request(user([large]))) == estimate_request(request(user([image()]))) > 1500
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL * 20_000}}
    assert 3000 <= estimate_request(request(user([pdf]))) < 30_000


def test_what_is_no_prompt_does_not_count() -> None:
    billing = text("x-anthropic-billing-header: cc_version=2.1.328; cch=12345;")
    assert estimate_request(request(user("hi"), system=[billing])) == estimate_request(request(user("hi")))
    signed = {"type": "thinking", "thinking": "", "signature": "s" * 1000}
    assert estimate_request(request(user("hi"), assistant([signed]))) < 20
