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
    ("size", "rate"), [(91_000, 6e-4), (135_000_000, 6e-4), (8_000_000_000, 4e-5), (10**12, 1e-5), (None, 4e-5)]
)
def test_the_rate_is_what_was_measured_or_documented_for_that_size(size, rate):
    assert peak_rate(0.0, size).value == pytest.approx(rate, rel=1e-6)


@given(SIZES, SIZES)
def test_a_larger_model_never_gets_a_higher_rate_and_none_leaves_the_bounds(one, other):
    small, large = (peak_rate(0.0, size).value for size in sorted((one, other)))
    assert 1e-5 * (1 - 1e-9) <= large <= small <= 6e-4 * (1 + 1e-9)


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
    one, four = UpdateSettings(warmup_steps=5, steps=1), UpdateSettings(warmup_steps=5, steps=4)
    assert [warming(one, 1.0, updates=number) for number in (0, 3, 4, 9)] == [(0.2,), (0.8,), (1.0,), (1.0,)]
    assert [warming(four, 1.0, updates=number) for number in (0, 1)] == [(0.2, 0.4, 0.6, 0.8), (1.0,) * 4]
    assert warming(UpdateSettings(warmup_steps=0, steps=2), 1.0, updates=0) == (1.0, 1.0)
