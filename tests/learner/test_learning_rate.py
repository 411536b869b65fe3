"""How far the optimiser may step, by the size of the model."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.learner.backends.model_size import named
from metaclaw.learner.learning_rate import peak_rate, warming

SIZES = st.integers(1, 10**12)


@pytest.mark.parametrize(
    ("size", "rate"), [(91_000, 3e-4), (135_000_000, 3e-4), (8_000_000_000, 2e-5), (10**12, 1e-5), (None, 2e-5)]
)
def test_the_rate_is_what_was_measured_or_documented_for_that_size(size, rate):
    assert peak_rate(0.0, size).value == pytest.approx(rate, rel=1e-6)


@given(SIZES, SIZES)
def test_a_larger_model_never_gets_a_higher_rate_and_none_leaves_the_bounds(one, other):
    small, large = (peak_rate(0.0, size).value for size in sorted((one, other)))
    assert 1e-5 * (1 - 1e-9) <= large <= small <= 3e-4 * (1 + 1e-9)


@given(st.floats(1e-9, 0.1), st.none() | SIZES)
def test_what_a_person_set_is_never_changed(setting, size):
    peak = peak_rate(setting, size)
    assert math.isclose(peak.value, setting)
    assert peak.why == "rl.update.learning_rate"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen3-8B", 8_000_000_000),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 30_000_000_000),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135_000_000),
        ("meta-llama/Llama-3.2-1B", 1_000_000_000),
        ("Qwen/Qwen2.5-0.5B", 500_000_000),
        ("/models/7B/mine", None),
        ("smollm2", None),
        ("moonshotai/Kimi-K2-Thinking", None),
    ],
)
def test_a_name_tells_the_size_where_it_has_one(name, size):
    assert named(name) == size


def test_the_rate_rises_over_steps_so_that_several_in_an_update_warm_up_sooner():
    one, four = (UpdateSettings(warmup_steps=5, steps=steps, passes=1) for steps in (1, 4))
    assert [warming(one, 1.0, updates=number) for number in (0, 3, 4, 9)] == [(0.2,), (0.8,), (1.0,), (1.0,)]
    assert [warming(four, 1.0, updates=number) for number in (0, 1)] == [(0.2, 0.4, 0.6, 0.8), (1.0,) * 4]
    assert warming(UpdateSettings(warmup_steps=0, steps=2, passes=1), 1.0, updates=0) == (1.0, 1.0)


def test_each_pass_has_its_steps_and_a_loss_without_bounds_goes_through_once():
    bounded = UpdateSettings(warmup_steps=8, steps=2, passes=3)
    assert [warming(bounded, 8.0, updates=number) for number in (0, 1)] == [(1, 2, 3, 4, 5, 6), (7, 8, 8, 8, 8, 8)]
    for loss in ("importance_sampling", "cispo"):
        unbounded = bounded.model_copy(update={"loss": loss})
        assert warming(unbounded, 8.0, updates=1) == (3, 4), loss
