"""Tokens, log-probabilities and advantages stay aligned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.learner.datums import TrainingTurn, build_groups, chains
from metaclaw.learner.exclusions import exclusion
from metaclaw.learner.gate.steps import Refusal, StepLimits, refusal
from metaclaw.learner.measurements import json_safe, measure
from tests.learner.recording import policy_sample

SETTINGS = UpdateSettings()
TOKENS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def turn(prompt, tokens, surprise=1.0, temperature=1.0, version=0, logprobs=None) -> TrainingTurn:
    logprobs = [-0.5 - index for index in range(len(tokens))] if logprobs is None else logprobs
    sample = policy_sample(prompt, tokens, logprobs, temperature=temperature, version=version)
    return TrainingTurn(turn=f"t{prompt}{tokens}", sample=sample, surprise=surprise)


def test_a_datum_is_the_recorded_tokens_shifted_by_one():
    """PITFALLS R3: old log-probabilities did not belong to the trained tokens."""
    (group,) = build_groups([turn([5, 6, 7], [8, 9], surprise=0.5, logprobs=[-1.5, -2.5])], SETTINGS)
    (datum,) = group.data
    assert datum.tokens_T.tolist() == [5, 6, 7, 8]
    assert datum.targets_T.tolist() == [6, 7, 8, 9]
    assert datum.logprobs_T.tolist() == [0, 0, -1.5, -2.5]
    assert datum.advantages_T.tolist() == [0, 0, 0.25, 0.25]
    assert group.config == {"temperature": 1.0, "clip_low_threshold": 0.8, "clip_high_threshold": pytest.approx(1.28)}


def test_groups_are_made_by_temperature_and_share_one_divisor():
    turns = [turn([1], [2, 3], temperature=0.7), turn([1], [2], temperature=1.0), turn([1], [4], temperature=0.7)]
    groups = build_groups(turns, SETTINGS)
    assert [(group.config["temperature"], len(group.data)) for group in groups] == [(0.7, 2), (1.0, 1)]
    advantages = [value for group in groups for datum in group.data for value in datum.advantages_T]
    assert advantages == [0.25] * 4


@given(st.lists(st.tuples(TOKENS, TOKENS, st.floats(-1, 1), st.sampled_from([0.5, 1.0])), min_size=1, max_size=8))
def test_advantages_sum_to_the_mean_surprise_per_token_however_the_data_is_cut(drawn):
    groups = build_groups([turn(*one) for one in drawn], SETTINGS)
    data = [datum for group in groups for datum in group.data]
    total = sum(float(datum.advantages_T.astype(np.float64).sum()) for datum in data)
    num_trained = sum(len(tokens) for _, tokens, _, _ in drawn)
    mean = sum(len(tokens) * surprise for _, tokens, surprise, _ in drawn) / num_trained
    assert total == pytest.approx(mean, abs=1e-6)
    assert sum(span.num_tokens for datum in data for span in datum.spans) == num_trained
    for datum in data:
        drawn_T = np.zeros(datum.targets_T.size, bool)
        for span in datum.spans:
            drawn_T[span.start : span.stop] = True
        assert not datum.advantages_T[~drawn_T].any()
        assert datum.tokens_T[1:].tolist() == datum.targets_T[:-1].tolist()


SESSION = st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=5)


@given(st.lists(SESSION, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_turns_that_continue_each_other_are_one_sequence_with_every_answer_in_its_place(sessions, random):
    turns = list[TrainingTurn]()
    for session in sessions:
        history = list[int]()
        for number, (said, answered) in enumerate(session):
            history += said
            name = f"t{len(turns)}"
            sample = policy_sample(history, answered, [-1.0 - number] * len(answered), version=number)
            turns.append(TrainingTurn(turn=name, sample=sample, surprise=0.1 * len(turns)))
            history = history + answered
    random.shuffle(turns)
    (group,) = build_groups(turns, SETTINGS)
    assert len(group.data) <= len(sessions), "turns of one session were not put together"
    num_trained = sum(len(one.sample.tokens) // 4 for one in turns)
    found = {span.turn: (datum, span) for datum in group.data for span in datum.spans}
    assert len(found) == len(turns) == sum(len(datum.spans) for datum in group.data)
    for one in turns:
        datum, span = found[one.turn]
        prompt, answer = (np.frombuffer(x, "<i4").tolist() for x in (one.sample.prompt_tokens, one.sample.tokens))
        where = slice(span.start, span.stop)
        assert datum.tokens_T[: span.start + 1].tolist() == prompt
        assert datum.targets_T[where].tolist() == answer
        assert datum.logprobs_T[where].tobytes() == one.sample.logprobs
        assert datum.advantages_T[where] == pytest.approx([one.surprise / num_trained] * len(answer), rel=1e-6)
        assert span.version == one.sample.version


def test_only_what_literally_begins_with_the_turn_before_is_put_together():
    begun, other = turn([1, 2], [3, 4]), turn([1, 2, 3, 9], [5])
    shorter, again = turn([1, 2, 3], [6]), turn([1, 2], [7])
    assert chains([begun, other, shorter, again]) == [[begun], [again], [shorter], [other]]
    first, second = turn([1, 2, 3, 4, 5], [6]), turn([1, 2, 3, 4, 5], [7])
    assert chains([begun, first, second]) == [[begun, first], [second]], "an answer is trained on once"
    deep = turn([1, 2, 3, 4, 5, 6, 8], [9])
    assert chains([deep, second, begun, first]) == [[begun, second], [first, deep]]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"untrainable": "stopped_by_string"}, "stopped_by_string"),
        ({"temperature": 0.29}, "temperature_too_low"),
        ({"temperature": 0.3}, None),
        ({"top_p": 0.9}, "truncated_sampling"),
        ({"top_k": 20}, "truncated_sampling"),
    ],
)
def test_each_rule_of_exclusion_has_its_name(changes, rule):
    assert exclusion(policy_sample(**changes)) == rule


@pytest.mark.parametrize(
    ("tokens", "logprobs", "rule"),
    [
        ([], [], "empty"),
        ([1, 2], [-1.0], "logprobs_mismatch"),
        ([1], [math.nan], "logprobs_not_finite"),
        ([1], [-math.inf], "logprobs_not_finite"),
    ],
)
def test_what_cannot_be_aligned_is_excluded_not_padded(tokens, logprobs, rule):
    """PITFALLS R3: log-probabilities were truncated, or padded with 0.0, which is probability 1."""
    assert exclusion(policy_sample(tokens=tokens, logprobs=logprobs)) == rule


def test_measurements_compare_what_is_comparable():
    groups = build_groups([turn([1], [2, 3], version=1), turn([1], [4], version=0)], SETTINGS)
    data = groups[0].data
    before = [np.array([-0.5, -1.5], np.float32), np.array([-1.0], np.float32)]
    after = [values + np.float32(0.1) for values in before]
    numbers = measure(data, before, after, parent=1)
    assert numbers["kl"] == pytest.approx(math.expm1(0.1) - 0.1, rel=1e-4)
    assert numbers["sampler_gap"] == pytest.approx(0.0, abs=1e-6)  # the stale turn's gap of 0.5 is not the sampler's
    assert numbers["ratio_mean"] == pytest.approx((1 + 1 + math.exp(-0.5)) / 3, rel=1e-5)
    assert numbers["staleness_max"] == 1
    assert numbers["kl_k1"] == pytest.approx(-0.1, rel=1e-4)
    assert numbers["entropy"] == pytest.approx((0.5 + 1.5 + 0.5) / 3)
    weights = np.exp([0.1, 0.1, -0.4])
    assert numbers["entropy_after"] == pytest.approx(np.dot(weights, [0.4, 1.4, 0.9]) / weights.sum(), rel=1e-5)
    ratios = np.exp([0, 0, -0.5])
    assert numbers["entropy_before"] == pytest.approx(np.dot(ratios, [0.5, 1.5, 1.0]) / ratios.sum(), rel=1e-5)
    assert numbers["effective_share"] == pytest.approx(ratios.sum() ** 2 / (ratios**2).sum() / 3, rel=1e-5)
    assert (numbers["ratio_min"], numbers["ratio_max"]) == pytest.approx((math.exp(-0.5), 1.0), rel=1e-5)
    assert "sampler_gap" not in measure(data, before, after, parent=2)


def test_the_gate_refuses_what_is_too_far_or_not_a_number():
    """PITFALLS R14: a bad update was served at once."""
    limits = (StepLimits(section="rl.update", max_kl=0.2),)
    assert refusal({"kl": 0.2, "entropy": 1.0, "grad_norm": 3.0}, limits) is None
    too_far = refusal({"kl": 0.21}, limits)
    assert too_far is not None
    assert too_far.shorter == pytest.approx(math.sqrt(0.7 * 0.2 / 0.21))
    assert "max_kl" in too_far.reason
    hopeless = refusal({"kl": 90.0}, limits)
    assert hopeless is not None
    assert hopeless.shorter == 0.25, "so far beyond the limit KL does not grow with the square any more"
    for broken in (math.nan, math.inf, -math.inf):
        expected = Refusal(reason="not finite: loss")
        assert refusal({"kl": 0.0, "loss": broken}, limits) == expected
    assert json_safe({"a": math.nan, "b": 1.0, "c": {"d": 2}}) == {"a": None, "b": 1.0, "c": {"d": 2}}


def test_what_updates_before_did_to_the_entropy_is_not_held_against_this_one():
    """Answers of a version that was surer than the one that the update starts from, and a step that does nothing."""
    groups = build_groups([turn([1], [2, 3, 4], version=0)], SETTINGS)
    before = [np.array([-2.0, -1.8, -2.2], np.float32)]
    numbers = measure(groups[0].data, before, before, parent=1)
    limits = [StepLimits(section="rl.self_distillation", max_kl=0.03, max_entropy_change=0.01)]
    assert numbers["entropy_after"] > numbers["entropy"] + 0.5
    assert refusal(numbers, limits) is None
    after = [values - np.float32(0.05) for values in before]
    assert refusal(measure(groups[0].data, before, after, parent=1), limits) is not None, "this one did it"
