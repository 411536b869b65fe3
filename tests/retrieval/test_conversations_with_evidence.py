"""The evaluation of `benchmarks/recall.py` measures what it says: evidence is there, said once, and does not change."""

from __future__ import annotations

from collections import Counter

from benchmarks.recall_conversations import conversations
from benchmarks.recall_held_out import HELD_OUT
from benchmarks.recall_texts import LANGUAGES


def test_every_question_has_its_evidence_in_the_conversation_it_is_asked_of():
    for made in [*conversations(), *conversations(texts=HELD_OUT)]:
        said = {one.id: one for one in made.said}
        assert len(said) == len(made.said)
        assert all(question.evidence in said for question in made.questions)
        assert all(one.at <= made.now for one in made.said)


def test_of_a_changing_fact_the_newer_statement_is_the_evidence():
    for made in conversations():
        facts = {question: statement for statement, question in LANGUAGES[made.language].changing}
        for question in (one for one in made.questions if one.kind == "changing"):
            before, after = facts[question.text].split("{}")
            same = [one for one in made.said if one.text.startswith(before) and one.text.endswith(after)]
            assert len(same) >= 2
            assert max(same, key=lambda one: one.at).id == question.evidence


def test_there_are_several_hundred_questions_in_six_languages_and_they_are_the_same_every_time():
    made = conversations()
    assert sum(len(one.questions) for one in made) > 400
    assert set(Counter(one.language for one in made).values()) == {5}
    assert conversations() == made
    assert conversations(seed=6) != made
