"""The demonstration's statistics, against cases whose answer is known."""

from __future__ import annotations

import numpy as np

from demo.evaluation import paired_change


def test_no_change_has_an_interval_around_zero():
    values = np.random.default_rng(1).random((20, 4))
    change = paired_change(values, values)
    assert (change.mean, change.low, change.high) == (0.0, 0.0, 0.0)


def test_a_constant_gain_is_certain_however_much_questions_differ():
    before = np.random.default_rng(2).random((20, 4))
    change = paired_change(before, before + 0.25)
    assert np.allclose([change.mean, change.low, change.high], 0.25)


def test_noise_alone_is_called_a_gain_about_as_rarely_as_promised():
    chance = np.random.default_rng(3)
    false_alarms = sum(
        paired_change(chance.random((20, 4)), chance.random((20, 4)), seed=run).low > 0 for run in range(80)
    )
    assert false_alarms <= 8  # 2.5 % of 80 is 2; the percentile bootstrap over 20 questions is a little narrow


def test_answers_to_one_question_do_not_count_as_independent():
    before = np.zeros((20, 100))
    after = np.zeros((20, 100))
    after[0] = 1.0  # one question won a hundred times over is one win
    assert paired_change(before, after).low == 0.0
