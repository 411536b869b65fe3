"""How a teacher's word becomes an advantage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.learner.datums import TrainingTurn, build_groups
from metaclaw.learner.distillation.leaning import leaned
from metaclaw.learner.distillation.lessons import Lesson
from tests.learner.recording import policy_sample

TURNS = [
    TrainingTurn(turn=name, sample=policy_sample(prompt, tokens, [-1.0] * len(tokens), **more), surprise=surprise)
    for name, prompt, tokens, surprise, more in (
        ("a", [1, 2], [3, 4], 0.5, {}),
        ("b", [1, 2, 3, 4, 5], [6], -0.5, {}),
        ("c", [9, 9], [8, 7, 6], 1.0, {"temperature": 0.7}),
    )
]
NUM_TOKENS = 6
nats = st.floats(-20, 0).map(lambda value: round(value, 3))


def lesson(weight: float = 1.0, max_gap: float = 5.0, **taught: list[float]) -> Lesson:
    values = {turn: np.asarray(values, np.float32) for turn, values in taught.items()}
    return Lesson(method="opd", teacher="t", weight=weight, max_gap=max_gap, taught=values)


def student(groups, value: float):
    return [np.full(datum.targets_T.shape, value, np.float32) for group in groups for datum in group.data]


def by_turn(groups) -> dict[str, list[float]]:
    return {
        span.turn: (datum.advantages_T[span.start : span.stop] * NUM_TOKENS).tolist()
        for group in groups
        for datum in group.data
        for span in datum.spans
    }


def test_the_advantage_is_the_teachers_log_probability_minus_the_policys_beside_the_rewards():
    groups = build_groups(TURNS, UpdateSettings())
    changed, numbers = leaned(groups, student(groups, -2.0), lesson(0.5, a=[-1.0, -4.0], c=[-2.0, math.nan, -90.0]))
    found = by_turn(changed)
    assert found["a"] == pytest.approx([0.5 + 0.5 * 1.0, 0.5 - 0.5 * 2.0])
    assert found["b"] == pytest.approx([-0.5]), "untaught"
    assert found["c"] == pytest.approx([1.0, 1.0, 1.0 - 0.5 * 5.0]), "unknown is nothing, and 88 nats are cut to 5"
    assert numbers == {
        "opd/taught_tokens": 4, "opd/kl": pytest.approx((-1 + 2 + 0 + 88) / 4), "opd/gap": pytest.approx(91 / 4),
        "opd/cut_share": 0.25,
    }  # fmt: skip
    assert by_turn(groups)["a"] == pytest.approx([0.5, 0.5]), "what came in is left as it was"


def test_rewards_weigh_what_they_are_told_to_and_nothing_without_their_method():
    twice = by_turn(build_groups(TURNS, UpdateSettings(reward_weight=2.0)))
    assert (twice["a"], twice["c"]) == (pytest.approx([1.0, 1.0]), pytest.approx([2.0] * 3))
    alone = by_turn(build_groups(TURNS, UpdateSettings(methods=("opd",))))
    assert not np.concatenate([*alone.values()]).any()


@settings(max_examples=25, deadline=None)
@given(st.lists(nats, min_size=2, max_size=2), nats, st.floats(0.1, 10))
def test_a_teacher_that_agrees_moves_nothing_and_one_that_is_surer_makes_likelier(teacher, own, weight):
    groups = build_groups(TURNS, UpdateSettings(methods=("opd",)))
    found = by_turn(leaned(groups, student(groups, own), lesson(weight, a=teacher))[0])["a"]
    for told, advantage in zip(teacher, found, strict=True):
        difference = np.float32(told) - np.float32(own)
        assert np.sign(advantage) == np.sign(difference)
        assert abs(advantage) <= 5 * weight * 1.0001
