"""How a teacher's likeliest tokens are learned: by the gradient of a KL that is reckoned here another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.learner.datums import TrainingTurn, build_groups, likely_group
from metaclaw.learner.distillation.lessons import Lesson, Likeliest
from metaclaw.learner.distillation.likely import asked_about, weighed, without
from tests.fakes.trainer import log_softmax
from tests.learner.recording import policy_sample

TURNS = [
    TrainingTurn(turn=name, sample=policy_sample(prompt, tokens, [-1.0] * len(tokens)), surprise=0.0)
    for name, prompt, tokens in (("a", [1, 2], [3, 4]), ("b", [1, 2, 3, 4, 5], [6]))
]
GROUPS = build_groups(TURNS, UpdateSettings(methods=("self_distillation",)))
NUM_TOKENS = 3
logits = st.lists(st.floats(-3, 3), min_size=6, max_size=6).map(np.asarray)


def lesson(tokens: list[list[int]], logprobs: list[list[float]], **changes) -> Lesson:
    told = Likeliest(tokens_NK=np.asarray(tokens, np.int64), logprobs_NK=np.asarray(logprobs, np.float32))
    settings = {"weight": 1.0, "max_gap": 100.0, **changes}
    return Lesson(method="self_distillation", teacher="t", taught={}, likeliest={"a": told}, **settings)


def learned(one: Lesson, policy_V: np.ndarray):
    """The datum's weights where turn ``a`` answers, and the numbers."""
    asked = asked_about(GROUPS, one)
    (group,) = likely_group(asked)
    student = [policy_V[datum.likely.targets_TK].astype(np.float32) for datum in group.data]
    changed, numbers = weighed(asked, student, one)
    (datum,) = changed[0].data
    return datum, numbers


def kl(logits_V: np.ndarray, teacher_V: np.ndarray, listed: list[int]) -> float:
    """From the policy of ``logits_V`` to the teacher, with all that is not listed as one outcome."""
    own_V, its_V = np.exp(log_softmax(logits_V, 1.0)), np.exp(teacher_V)
    own, its = [own_V[listed], 1 - own_V[listed].sum()], [its_V[listed], 1 - its_V[listed].sum()]
    own, its = np.append(*own), np.append(*its)
    return float(np.sum(own * np.log(own / its)))


@settings(max_examples=20, deadline=None)
@given(logits, logits, st.sampled_from([[0, 1, 2], [5], [4, 2]]))
def test_the_weights_are_the_gradient_of_the_kl_with_one_outcome_for_all_others(policy, teacher, listed):
    policy_V, teacher_V = log_softmax(policy, 1.0), log_softmax(teacher, 1.0)
    rows = [listed, listed]
    datum, numbers = learned(lesson(rows, [teacher_V[listed].tolist()] * 2), policy_V)
    assert numbers["self_distillation/kl"] == pytest.approx(kl(policy, teacher_V, listed), abs=1e-4)
    # The loss of one place is -sum(w * S): its gradient by the logits, once with S = log_softmax, once by differences.
    weights_K = datum.likely.weights_TK[1].astype(float) * NUM_TOKENS
    one_hot = np.eye(6)[listed]
    ours = -(weights_K[:, None] * (one_hot - np.exp(policy_V))).sum(axis=0)
    step = 1e-5
    theirs = [
        (kl(policy + step * one, teacher_V, listed) - kl(policy - step * one, teacher_V, listed)) / (2 * step)
        for one in np.eye(6)
    ]
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_what_is_not_told_or_not_of_the_turn_weighs_nothing():
    policy_V = log_softmax(np.arange(7.0), 1.0)
    one = lesson([[5, 0], [6, 3]], [[-0.1, -math.inf], [-math.inf, -math.inf]], weight=2.0)
    datum, numbers = learned(one, policy_V)
    weights = datum.likely.weights_TK
    assert weights[1, 0] > 0, "what the teacher finds likelier than the policy becomes likelier"
    assert not np.delete(weights.ravel(), 2).any()
    assert numbers["self_distillation/taught_tokens"] == 1
    (silent,) = without([*asked_about(GROUPS, one)], {"a"})[0].data
    assert not silent.likely.weights_TK.any()


def test_a_lesson_without_likeliest_tokens_asks_for_no_pass():
    assert likely_group(GROUPS) == []
    assert likely_group(asked_about(GROUPS, lesson([[1], [1]], [[-1.0], [-1.0]])))[0].loss == "cross_entropy"
