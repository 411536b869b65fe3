"""What a proposed skill says already."""

from __future__ import annotations

from itertools import combinations

import pytest

from metaclaw.skills.evolution.novelty import TOO_ALIKE, likeness, nearest
from metaclaw.skills.layout import starter_folders
from metaclaw.skills.skill import Skill, read_skill

STARTERS = [read_skill(path) for path, _, _ in starter_folders()]


def skill(name: str, description: str, body: str) -> Skill:
    return Skill(name=name, description=description, body=body)


def test_no_two_starter_skills_are_taken_for_one():
    assert max(likeness(one, other) for one, other in combinations(STARTERS, 2)) < 0.8 * TOO_ALIKE


def test_the_same_advice_in_other_words_is_found_in_the_script_of_both():
    again = skill(
        "writing-commit-messages",
        "Use when a commit message for git is to be written.",
        "State in one short line what the commit changes and why, in the imperative, below 72 characters; leave a "
        "blank line, then the reasons.",
    )
    found = nearest(again, STARTERS)
    assert found is not None
    assert found[0].name == "git-commit-messages"
    assert found[1] >= TOO_ALIKE
    one = skill("a", "处理带有单位的数字时使用", "计算之前写下每个单位")
    other = skill("b", "处理带单位的数字时使用", "计算前写下每个单位")
    assert likeness(one, other) >= TOO_ALIKE


def test_likeness_is_symmetric_and_bounded():
    for one, other in combinations(STARTERS[:10], 2):
        assert likeness(one, other) == pytest.approx(likeness(other, one))
        assert 0 <= likeness(one, other) < 1
    assert likeness(STARTERS[0], STARTERS[0]) == pytest.approx(1)
    assert nearest(STARTERS[0], []) is None
