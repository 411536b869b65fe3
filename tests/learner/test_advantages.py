"""Baselines and advantages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.journal.learning_records import Baseline
from metaclaw.learner.advantages.choice import STRATEGIES
from metaclaw.learner.advantages.ema_baseline import ema_baseline
from metaclaw.learner.advantages.strategy import num_informative

REWARD = st.floats(-1, 1)
REWARDS = st.lists(REWARD, min_size=1, max_size=40)
BASELINE = st.builds(lambda value, count: Baseline(value=value, num_rewards=count), REWARD, st.integers(1, 10_000))
DECAY = st.floats(0, 0.99)


@given(st.sampled_from(sorted(STRATEGIES)), REWARDS, st.none() | BASELINE, DECAY)
def test_every_strategy_is_defined_for_every_batch_and_keeps_the_same_baseline(name, rewards, baseline, decay):
    """PITFALLS R4: one sample or equal rewards are zeros where nothing was known before, never a NaN."""
    advantages, after = STRATEGIES[name](rewards, baseline, decay)
    assert len(advantages) == len(rewards)
    assert all(map(math.isfinite, advantages))
    assert after == ema_baseline(rewards, baseline, decay)[1]
    if len(set(rewards)) == 1 and (baseline is None or name not in {"ema_baseline", "group"}):
        assert advantages == pytest.approx([0.0] * len(rewards), abs=1e-12)


def test_the_named_strategies_measure_against_what_they_say():
    known = Baseline(value=0.5, num_rewards=9)
    assert STRATEGIES["ema_baseline"]([1, -1], known, 0.5)[0] == (0.5, -1.75)
    assert STRATEGIES["leave_one_out"]([1, 0, -1], known, 0.5)[0] == (1.5, 0.0, -1.5)
    assert STRATEGIES["batch_zscore"]([1, -1, -1, 1], known, 0.5)[0] == pytest.approx((1, -1, -1, 1))


@given(REWARDS, st.none() | BASELINE, DECAY)
def test_every_batch_has_finite_surprises_and_a_baseline_inside_the_rewards(rewards, baseline, decay):
    """PITFALLS R4: a z-score over one sample or equal rewards is no gradient or a NaN."""
    differences, after = ema_baseline(rewards, baseline, decay)
    assert len(differences) == len(rewards)
    assert all(map(math.isfinite, differences))
    seen = [*rewards, *([baseline.value] if baseline else [])]
    assert min(seen) - 1e-12 <= after.value <= max(seen) + 1e-12
    assert after.num_rewards == len(rewards) + (baseline.num_rewards if baseline else 0)


@given(REWARD, DECAY)
def test_one_sample_without_history_teaches_nothing(reward, decay):
    differences, after = ema_baseline([reward], None, decay)
    assert differences == (0.0,)
    assert after == Baseline(value=reward, num_rewards=1)


@given(REWARD, st.integers(1, 40), DECAY)
def test_equal_rewards_give_zeros(reward, count, decay):
    assert ema_baseline([reward] * count, None, decay)[0] == pytest.approx([0.0] * count, abs=1e-12)
    known = Baseline(value=reward, num_rewards=3)
    assert ema_baseline([reward] * count, known, decay)[0] == pytest.approx([0.0] * count, abs=1e-12)


@given(st.lists(REWARD, min_size=2, max_size=40))
def test_the_first_batch_measures_each_reward_against_the_mean_of_the_others(rewards):
    differences, _ = ema_baseline(rewards, None, 0.9)
    for index, difference in enumerate(differences):
        others = rewards[:index] + rewards[index + 1 :]
        assert difference == pytest.approx(rewards[index] - math.fsum(others) / len(others), abs=1e-9)
    assert math.fsum(differences) == pytest.approx(0, abs=1e-9)


@given(st.lists(REWARD, min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_the_order_inside_the_first_batch_does_not_matter(rewards, random):
    order = list(range(len(rewards)))
    random.shuffle(order)
    differences, after = ema_baseline(rewards, None, 0.9)
    shuffled, shuffled_after = ema_baseline([rewards[index] for index in order], None, 0.9)
    assert shuffled == tuple(differences[index] for index in order)
    assert shuffled_after == after


@given(REWARDS, BASELINE, DECAY, REWARD)
def test_a_reward_never_moves_its_own_baseline(rewards, baseline, decay, other):
    differences, _ = ema_baseline(rewards, baseline, decay)
    changed, _ = ema_baseline([*rewards[:-1], other], baseline, decay)
    assert changed[:-1] == differences[:-1]
    assert changed[-1] - differences[-1] == pytest.approx(other - rewards[-1], abs=1e-9)


def test_an_exchange_near_its_baseline_is_not_informative():
    assert num_informative([0.05, -0.05, 0.051, -0.2, 0.0]) == 2
