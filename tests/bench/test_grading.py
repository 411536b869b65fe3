"""How answers are graded, and what the user says to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.bench.days import ChoiceEval, ChoiceRound
from metaclaw.bench.grading import Grade, chosen_options, graded_choice
from metaclaw.bench.user import question, remark_on

LETTERS = "ABCDE"


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        (r"It is \bbox{A,C}.", "AC"),
        (r"\boxed{b}", "B"),
        (r"\boxed{\text{A, C}}", "AC"),
        (r"\bbox{ACD}", "ACD"),
        (r"\bbox{A and C}", "AC"),
        (r"First \bbox{A}; no, looked again: \bbox{B}", "B"),
        (r"\bbox{}", None),
        (r"\bbox{none}", None),
        ("A and C", None),
        (r"\bbox{A, Z}", "A"),
        (r"\bbox{A", None),
    ],
)
def test_the_last_box_counts_however_it_is_written(answer: str, chosen: str | None) -> None:
    """PITFALLS B7: the first box counted, also where a model corrected itself."""
    assert chosen_options(answer, LETTERS) == (None if chosen is None else frozenset(chosen))


@given(st.sets(st.sampled_from(LETTERS), min_size=1), st.sets(st.sampled_from(LETTERS)), st.integers(2, 5))
def test_a_score_is_between_0_and_1_and_1_for_the_right_ones_alone(right: set[str], named: set[str], num: int) -> None:
    """PITFALLS B7: a score could be negative."""
    options = dict.fromkeys(sorted(right | set(LETTERS[:num])), "x")
    asked = ChoiceEval.model_validate({"options": options, "answer": sorted(right)})
    grade = graded_choice(rf"\bbox{{{','.join(sorted(named))}}}", asked)
    assert grade.score is not None
    assert 0.0 <= grade.score <= 1.0
    assert grade.is_right == (named & options.keys() == right)


def test_the_user_says_of_each_option_what_was_wrong_with_it() -> None:
    asked = ChoiceRound.model_validate({
        "id": "r", "type": "multi_choice", "question": "Which?",
        "feedback": {"correct": "Yes.", "options": {"A": "A is the sky.", "C": "C is a stone."}},
        "eval": {"options": {"A": "blue", "B": "green", "C": "grey"}, "answer": ["A", "B"]},
    })  # fmt: skip
    assert remark_on(asked, graded_choice(r"\bbox{A,B}", asked.eval)) == "Yes."
    said = remark_on(asked, graded_choice(r"\bbox{B,C}", asked.eval)).splitlines()
    assert said[:2] == ["A is right too. A is the sky.", "C is wrong. C is a stone."]
    assert "in the form" in remark_on(asked, graded_choice("blue", asked.eval))
    assert remark_on(asked, Grade(score=None, said="broken")) == ""
    assert question(asked).splitlines()[2:5] == ["A. blue", "B. green", "C. grey"]
    assert r"\bbox{A,C}" in question(asked)
