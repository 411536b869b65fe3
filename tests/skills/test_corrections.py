"""A user who corrects, in a few languages; and what only looks like it."""

from __future__ import annotations

import pytest

from metaclaw.skills.evolution.corrections import is_correction

CORRECTIONS = [
    "No, that's wrong. The file is in src.",
    "that is not what I asked for, I want the second column",
    "It still doesn't work: same error",
    "You misunderstood me, I meant the other one",
    "Wrong! It must be sorted.",
    "No, I meant 2024",
    "You forgot the header",
    "Hm. This is incorrect.",
    "Nein, das ist falsch",
    "Das stimmt nicht, es sind 14",
    "das funktioniert immer noch nicht",
    "Du hast die zweite Spalte vergessen",
    "Ce n'est pas ce que j'ai demandé",
    "C'est faux, il y en a trois",
    "ça ne marche toujours pas",
    "Eso está mal, son tres",
    "no es lo que pedí",
    "Isso está errado",
    "non funziona, stesso errore",
    "Это неправильно, там три",
    "不对，应该是三个",
    "这个答案是错的",
    "違います、三つです",
    "それは間違っています",
    "틀렸어요, 세 개입니다",
]

OTHERS = [
    "thanks, that works",
    "No",
    "no thanks",
    "no, that's fine",
    "No, that is fine, go on",
    "ok, now do the same for b.py",
    "Is that wrong?",
    "What is wrong with my code?",
    "I was wrong, sorry. Use the first one",
    "wrong button, never mind",
    "Nein danke",
    "Was stimmt hier nicht?",
    "Merci, c'est parfait",
    "perfecto, gracias",
    "这个答案是错的吗？",
    "谢谢，很好",
    "ありがとうございます",
    "違いますか？",
    "write a function that returns true if it is not correct",
    "explain why this test fails: " + "x " * 200 + "that's wrong",
    "",
]


@pytest.mark.parametrize("text", CORRECTIONS)
def test_a_correction_is_seen(text: str):
    assert is_correction(text)


@pytest.mark.parametrize("text", OTHERS)
def test_what_is_no_correction_is_left_alone(text: str):
    assert not is_correction(text)
