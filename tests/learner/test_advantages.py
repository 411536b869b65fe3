"""Baselines and advantages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.journal.learning_records import Baseline
from metaclaw.learner.advantages import num_informative, surprises

REWARD = st.floats(-1, 1)
REWARDS = st.lists(REWARD, min_size=1, max_size=40)
BASELINE = st.builds(lambda value, count: Baseline(value=value, num_rewards=count), REWARD, st.integers(1, 10_000))
DECAY = st.floats(0, 0.99)


@given(REWARDS, st.none() | BASELINE, DECAY)
def test_every_batch_has_finite_surprises_and_a_baseline_inside_the_rewards(rewards, baseline, decay):
    """PITFALLS R4: a z-score over one sample or equal rewards is no gradient or a NaN."""
    differences, after = surprises(rewards, baseline, decay)
    assert len(differences) == len(rewards)
    assert all(map(math.isfinite, differences))
    seen = [*rewards, *([baseline.value] if baseline else [])]
    assert min(seen) - 1e-12 <= after.value <= max(seen) + 1e-12
    assert after.num_rewards == len(rewards) + (baseline.num_rewards if baseline else 0)


@given(REWARD, DECAY)
def test_one_sample_without_history_teaches_nothing(reward, decay):
    differences, after = surprises([reward], None, decay)
    assert differences == (0.0,)
    assert after == Baseline(value=reward, num_rewards=1)


@given(REWARD, st.integers(1, 40), DECAY)
def test_equal_rewards_give_zeros(reward, count, decay):
    assert surprises([reward] * count, None, decay)[0] == pytest.approx([0.0] * count, abs=1e-12)
    known = Baseline(value=reward, num_rewards=3)
    assert surprises([reward] * count, known, decay)[0] == pytest.approx([0.0] * count, abs=1e-12)


@given(st.lists(REWARD, min_size=2, max_size=40))
def test_the_first_batch_measures_each_reward_against_the_mean_of_the_others(rewards):
    differences, _ = surprises(rewards, None, 0.9)
    for index, difference in enumerate(differences):
        others = rewards[:index] + rewards[index + 1 :]
        assert difference == pytest.approx(rewards[index] - math.fsum(others) / len(others), abs=1e-9)
    assert math.fsum(differences) == pytest.approx(0, abs=1e-9)


@given(st.lists(REWARD, min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_the_order_inside_the_first_batch_does_not_matter(rewards, random):
    order = list(range(len(rewards)))
    random.shuffle(order)
    differences, after = surprises(rewards, None, 0.9)
    shuffled, shuffled_after = surprises([rewards[index] for index in order], None, 0.9)
    assert shuffled == tuple(differences[index] for index in order)
    assert shuffled_after == after


@given(REWARDS, BASELINE, DECAY, REWARD)
def test_a_reward_never_moves_its_own_baseline(rewards, baseline, decay, other):
    differences, _ = surprises(rewards, baseline, decay)
    changed, _ = surprises([*rewards[:-1], other], baseline, decay)
    assert changed[:-1] == differences[:-1]
    assert changed[-1] - differences[-1] == pytest.approx(other - rewards[-1], abs=1e-9)


def test_an_exchange_near_its_baseline_is_not_informative():
    assert num_informative([0.05, -0.05, 0.051, -0.2, 0.0]) == 2
