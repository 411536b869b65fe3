"""Words in the scripts of the world."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.retrieval.words import words_of

# A question and what a text that answers it says: every pair must share a word, and none with any other language's.
PAIRS = [
    ("Where do my cats sleep?", "The cat sleeps on the sofa."),
    ("Wo schlafen meine Katzen?", "Die Katze schläft im Körbchen."),
    ("¿Cómo se llaman mis gatos?", "El gato se llama Félix."),
    ("О чём книга?", "Он читал книги вслух."),
    ("Πού είναι η γάτα;", "Η ΓΑΤΑ κοιμάται."),
    ("我的猫在哪里", "猫是黑色的。"),
    ("银行几点开门", "附近的银行九点开。"),
    ("住所を教えて", "住所は東京です"),
    ("コーヒーは好きですか", "毎朝コーヒーを飲む"),
    ("커피가 좋아?", "저는 커피를 마셔요"),
    ("แมวชื่ออะไร", "เลี้ยงแมวไว้"),
    ("बिल्ली कहाँ है", "मेरी बिल्ली सो रही है"),
    ("أين الكتاب", "قرأت كتاب جديد"),
    ("איפה הספר", "הספר על השולחן"),
    ("ძაღლი სად არის", "ჩემი ძაღლი"),
    ("Գիրքը որտե՞ղ է", "գիրքը սեղանին"),
    ("பூனை எங்கே", "என் பூனை தூங்குகிறது"),
    ("ឆ្មានៅឯណា", "ខ្ញុំមានឆ្មា"),
]


@pytest.mark.parametrize(("question", "answer"), PAIRS)
def test_a_question_shares_a_word_with_its_answer_and_with_no_other(question: str, answer: str):
    asked = set(words_of(question))
    assert asked & set(words_of(answer))
    for _, other in PAIRS:
        if other != answer and not (set(words_of(other)) & set(words_of(answer))):
            assert not asked & set(words_of(other)), other


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("please tell me what the user wants", ["want"]),
        ("commits committed commit", ["commit"] * 3),
        ("hike hiked hiking drives driving drive", ["hike"] * 3 + ["driv"] * 3),
        ("Namen Name lebe leben wohne wohnen", ["name"] * 2 + ["lebe"] * 2 + ["wohn"] * 2),
        ("string strings bring needed speed", ["string", "string", "bring", "need", "speed"]),
        ("my son and the door", ["son", "door"]),
        ("我开什么车", ["开", "车"]),
        ("notes note boxes box pages page queries query", ["note"] * 2 + ["box"] * 2 + ["page"] * 2 + ["query"] * 2),
        ("classes class", ["class", "class"]),
        ("Straße STRASSE ｓｔｒａｓｓｅ", ["strass"] * 3),
        ("Zoë Zoe\u0308 zoe", ["zoe"] * 3),
        ("ёлка елка", ["елк", "елк"]),
        ("كِتَابٌ كتاب", ["كتاب", "كتاب"]),
        ("snake_case kebab-case v2 3", ["snak", "case", "kebab", "case", "v2", "3"]),
        ("iPhone用", ["iphon", "用"]),
        ("我的猫", ["猫"]),
        ("", []),
        ("…!? — 🎉", []),
    ],
)
def test_a_word_has_one_form(text: str, words: list[str]):
    assert words_of(text) == words


@given(st.text(max_size=200))
def test_any_text_has_words_that_are_words_of_themselves_spelled_otherwise(text: str):
    words = words_of(text)
    assert all(words)
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(unicodedata.normalize("NFC", text))


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_words_of_two_lines_are_those_of_each(first: str, second: str):
    assert words_of(f"{first}\n{second}") == words_of(first) + words_of(second)


def test_what_is_no_word_but_data_is_left_out():
    """A key or an image in base64 would be one word of a million letters, kept in every index."""
    assert words_of("picture " + "QUJD" * 100_000) == ["pictur"]
