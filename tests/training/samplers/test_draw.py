"""The draw against the formula written out for one row at a time."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.training.samplers.draw import DrawSettings, draw, token_logprobs, topk_logprobs
from tests.training.device import DEVICE

LOGIT = st.floats(-30, 30, width=32)
SETTINGS = st.builds(
    DrawSettings,
    temperature=st.sampled_from([0.0, 1e-6, 0.3, 0.7, 1.0, 1.9]),
    top_k=st.sampled_from([-1, 0, 1, 2, 5, 100]),
    top_p=st.sampled_from([1e-6, 0.1, 0.5, 0.9, 1.0]),
)


def naive_distribution(logits: list[float], setting: DrawSettings) -> dict[int, float]:
    """Temperature, then the k likeliest, then the smallest set that reaches top_p; renormalised each time."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    weights = {token: math.exp((logits[token] - max(logits)) / setting.temperature) for token in order}
    if setting.top_k > 0:
        weights = {token: weights[token] for token in order[: setting.top_k]}
    total = sum(weights.values())
    kept, mass = {}, 0.0
    for token, weight in weights.items():
        if kept and setting.top_p < 1 and mass >= setting.top_p:
            break
        kept[token] = weight / total
        mass += weight / total
    return {token: p / sum(kept.values()) for token, p in kept.items()}


@st.composite
def batches(draw_value):
    vocab = draw_value(st.integers(2, 12))
    rows = draw_value(st.lists(st.lists(LOGIT, min_size=vocab, max_size=vocab, unique=True), min_size=1, max_size=5))
    chosen = [draw_value(SETTINGS) for _ in rows]
    uniforms = [draw_value(st.floats(0, 1, exclude_max=True)) for _ in rows]
    return rows, chosen, uniforms


@settings(deadline=None, max_examples=150)
@given(batches())
def test_mixed_rows_are_drawn_as_the_naive_formula_says(batch) -> None:
    """KNOWLEDGE 1.6, fork B8: log-probs belong to the truncated distribution, not to the one before top-k and top-p."""
    rows, chosen, uniforms = batch
    draws = draw(torch.tensor(rows), chosen, uniforms)
    for row, setting in enumerate(chosen):
        logits, token = [float(np.float32(value)) for value in rows[row]], int(draws.tokens_B[row])
        full = logits[token] - max(logits) - math.log(sum(math.exp(value - max(logits)) for value in logits))
        assert float(draws.logprobs_full_B[row]) == _near(full)
        if setting.is_greedy:
            assert token == max(range(len(logits)), key=logits.__getitem__)
            assert float(draws.logprobs_B[row]) == 0.0
            continue
        expected = naive_distribution(logits, setting)
        if _sits_on_an_edge(logits, setting):
            continue  # float32 and float64 may cut one token apart
        assert token in expected
        assert float(draws.logprobs_B[row]) == _near(math.log(expected[token]) if expected[token] else -math.inf)


def _near(value: float):
    return pytest.approx(value, rel=2e-4, abs=2e-4)


def _sits_on_an_edge(logits: list[float], setting: DrawSettings) -> bool:
    unbounded = DrawSettings(temperature=setting.temperature, top_k=setting.top_k)
    mass = np.cumsum(sorted(naive_distribution(logits, unbounded).values(), reverse=True))
    ordered = sorted(logits, reverse=True)
    close = any(a - b < 1e-4 * max(1.0, abs(a)) for a, b in pairwise(ordered))
    return close or bool(np.any(np.abs(mass - setting.top_p) < 1e-5))


def test_frequencies_follow_the_distribution_at_every_setting() -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
    count = 4000
    uniforms = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).tolist()
    for setting in (DrawSettings(), DrawSettings(temperature=0.7, top_k=4), DrawSettings(temperature=1.5, top_p=0.8)):
        draws = draw(logits.expand(count, -1), [setting] * count, uniforms)
        seen = Counter(draws.tokens_B.tolist())
        expected = naive_distribution(logits.tolist(), setting)
        assert set(seen) <= set(expected)
        chi_square = sum((seen[token] - count * p) ** 2 / (count * p) for token, p in expected.items())
        assert chi_square < 25, f"{setting}: {chi_square}"  # the 99.99 % point of 5 degrees of freedom


def test_a_token_without_mass_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]] * 4)
    draws = draw(logits, [DrawSettings()] * 4, [0.0, 0.4999999999, 0.5, 1 - 2**-53])
    assert draws.tokens_B.tolist() == [1, 1, 3, 3]
    assert not draws.broken_B.any()


def test_top_p_over_a_flat_distribution_keeps_as_many_tokens_as_it_needs() -> None:
    """More than the few candidates that are looked at first; a row beside it needs one."""
    logits = torch.stack([torch.linspace(0, 0.01, 5000), torch.linspace(0, 5000, 5000)])
    draws = draw(logits, [DrawSettings(top_p=0.5)] * 2, [0.999999, 0.999999])
    assert draws.tokens_B.tolist() == [4999, 4999]  # in the order of the vocabulary, so the last that is kept
    assert float(draws.logprobs_B[0]) == pytest.approx(-math.log(2500), abs=0.01)
    assert float(draws.logprobs_B[1]) == pytest.approx(0.0, abs=1e-6)
    assert 2500 <= int(draw(logits, [DrawSettings(top_p=0.5)] * 2, [0.0, 0.0]).tokens_B[0]) <= 2520


def test_a_row_that_is_not_a_number_is_named_and_its_neighbours_are_drawn() -> None:
    logits = torch.tensor([[0.0, 9.0], [math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf], [9.0, 0.0]])
    draws = draw(logits, [DrawSettings(temperature=0.0)] * 2 + [DrawSettings()] * 3, [0.5] * 5)
    assert draws.broken_B.tolist() == [False, True, True, True, False]
    assert draws.tokens_B[0] == 1
    assert draws.tokens_B[4] == 0


@pytest.mark.parametrize("temperature", [1e-37, 1e-39, 1e-46, 5e-324])
def test_the_least_temperatures_take_the_likeliest_and_leave_their_neighbours_alone(temperature: float) -> None:
    """One that float32 has as 0 made 0 / 0: on a CPU the whole step failed, on a GPU an index beyond the vocabulary."""
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]], device=DEVICE)
    draws = draw(logits, [DrawSettings(temperature=temperature), DrawSettings()], [0.99, 0.5])
    assert draws.tokens_B.tolist() == [1, 0]
    assert draws.logprobs_B[0].item() == 0.0


def test_the_vocabulary_is_drawn_from_to_its_end() -> None:
    """A float32 running sum over 150,000 equal tokens would never reach the last ones."""
    logits = torch.zeros(1, 150_000)
    assert int(draw(logits, [DrawSettings()], [1 - 1e-9]).tokens_B[0]) == 149_999
    assert float(draw(logits, [DrawSettings()], [0.5]).logprobs_B[0]) == _near(-math.log(150_000))


def test_given_tokens_and_the_best_are_scored_at_temperature_one() -> None:
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    expected = logits.log_softmax(-1)
    torch.testing.assert_close(token_logprobs(logits, torch.tensor([1, 6, 0])), expected[[0, 1, 2], [1, 6, 0]])
    tokens, logprobs = topk_logprobs(logits, 3)
    torch.testing.assert_close(logprobs, expected.topk(3).values)
    assert tokens.tolist() == expected.topk(3).indices.tolist()
