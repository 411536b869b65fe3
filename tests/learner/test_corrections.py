"""What each token weighs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.learner.corrections import clipped_share, corrected, pulled
from metaclaw.learner.datums import DatumGroup, TrainingTurn, build_groups
from tests.learner.recording import policy_sample

PARENT = 3
SETTINGS = UpdateSettings()
GAPS = st.lists(st.floats(-6, 6), min_size=1, max_size=6)
ANSWERS = st.lists(st.tuples(GAPS, st.floats(-1, 1), st.sampled_from([PARENT, PARENT - 1])), min_size=1, max_size=5)
LOSSES = st.sampled_from(["ppo", "importance_sampling", "cispo"])


def material(answers, **changes):
    """Groups, and what the trainer says now: the sampler's log-probability of each token, and the gap."""
    turns = [
        TrainingTurn(
            turn=f"t{index}",
            sample=policy_sample([index], [1] * len(gaps), [-1.0] * len(gaps), version=version),
            surprise=surprise,
        )
        for index, (gaps, surprise, version) in enumerate(answers)
    ]
    settings = SETTINGS.model_copy(update=changes)
    groups = build_groups(turns, settings)
    gaps = {f"t{index}": gaps for index, (gaps, _, _) in enumerate(answers)}
    now = [np.float32(-1) + np.array(gaps[datum.spans[0].turn], np.float32) for datum in data_of(groups)]
    return groups, now, settings


def data_of(groups: tuple[DatumGroup, ...]):
    return [datum for group in groups for datum in group.data]


def losses(datum, now_T, loss, settings):
    """What the trainer's loss has as d loss / d log-prob of each token, by docs/losses.md."""
    ratio = np.exp(now_T.astype(np.float64) - datum.ratios_from_T)
    bounded = np.clip(ratio, settings.ratio_low, settings.ratio_high)
    advantage = datum.advantages_T.astype(np.float64)
    if loss == "cispo":
        return -bounded * advantage
    is_bounded = (bounded * advantage < ratio * advantage) if loss == "ppo" else np.zeros(ratio.shape, bool)
    return np.where(is_bounded, 0.0, -ratio * advantage)


@given(ANSWERS, LOSSES)
def test_no_token_pulls_with_more_than_the_largest_weight_and_what_weighs_less_is_left_alone(answers, loss):
    groups, now, settings = material(answers, loss=loss, max_mismatch=0.0)
    weighed = corrected(groups, now, parent=PARENT, settings=settings)
    assert not weighed.masked
    for old, new, now_T in zip(data_of(groups), data_of(weighed.groups), now, strict=True):
        # What an older version drew has its whole weight under ppo too: its bounds begin anew.
        as_loss = "importance_sampling" if old.spans[0].version != PARENT and loss == "ppo" else loss
        before, after = losses(old, now_T, as_loss, settings), losses(new, now_T, loss, settings)
        largest = settings.max_token_weight * np.abs(old.advantages_T)
        assert after == pytest.approx(np.clip(before, -largest, largest), rel=1e-4, abs=1e-9)
        assert (np.sign(after) == np.sign(before)).all()


@given(ANSWERS, LOSSES, st.floats(0, 4))
def test_only_what_an_older_version_drew_has_its_bounds_from_where_the_step_begins(answers, loss, largest):
    groups, now, settings = material(answers, loss=loss, max_mismatch=0.0, max_token_weight=largest)
    weighed = corrected(groups, now, parent=PARENT, settings=settings)
    for old, new, now_T in zip(data_of(groups), data_of(weighed.groups), now, strict=True):
        is_anew = loss == "ppo" and largest > 0 and old.spans[0].version != PARENT
        assert new.ratios_from_T == pytest.approx(now_T if is_anew else old.logprobs_T)
        assert (new.proximal_T is not None) == is_anew
        assert new.logprobs_T is old.logprobs_T  # what was drawn at is still what is measured


@given(ANSWERS, LOSSES)
def test_masking_leaves_the_others_and_their_divisor_as_they_were(answers, loss):
    groups, now, settings = material(answers, loss=loss, max_token_weight=0.0)
    weighed = corrected(groups, now, parent=PARENT, settings=settings)
    for old, new in zip(data_of(groups), data_of(weighed.groups), strict=True):
        (span,) = old.spans
        gap = float(np.mean(np.float32(answers[int(span.turn[1:])][0])))
        bound = math.log(1.01) * math.sqrt(256 / span.num_tokens)
        if abs(abs(gap) - bound) < 1e-5:
            continue
        is_masked = span.version == PARENT and abs(gap) > bound
        assert (span.turn in weighed.masked) == is_masked
        assert new.advantages_T.tolist() == ([0.0] * len(new.advantages_T) if is_masked else old.advantages_T.tolist())
    assert weighed.numbers["masked_turns"] == len(weighed.masked)
    assert weighed.is_mostly_masked == (len(weighed.masked) > len(answers) / 2)


def test_a_long_answer_is_held_to_one_percent_and_an_older_version_never_masks():
    long, off = [0.012] * 300, [0.008] * 300
    groups, now, settings = material([(long, 1.0, PARENT), (off, 1.0, PARENT), (long, 1.0, PARENT - 1)])
    assert corrected(groups, now, parent=PARENT, settings=settings).masked == ("t0",)
    nothing = settings.model_copy(update={"max_mismatch": 0.0})
    assert corrected(groups, now, parent=PARENT, settings=nothing).masked == ()


def test_what_is_not_a_number_is_left_for_the_check_of_the_step():
    groups, now, settings = material([([0.0, math.nan], 1.0, PARENT), ([3.0, 0.0], 1.0, PARENT - 1)])
    weighed = corrected(groups, now, parent=PARENT, settings=settings)
    assert data_of(weighed.groups)[0].advantages_T.tolist() == data_of(groups)[0].advantages_T.tolist()
    assert weighed.numbers["cut_share"] == 0.25


@given(ANSWERS, st.floats(0.001, 1), st.data())
def test_the_pull_of_the_base_model_moves_no_sum_and_favours_what_moved_away_least(answers, coefficient, data):
    groups, now, _ = material(answers)
    gaps = [data.draw(st.lists(st.floats(-3, 3), min_size=len(x), max_size=len(x))) for x in now]
    reference = [x - np.array(gap, np.float32) for x, gap in zip(now, gaps, strict=True)]
    changed, numbers = pulled(groups, now, reference, coefficient)
    terms = np.concatenate(
        [new.advantages_T - old.advantages_T for old, new in zip(data_of(groups), data_of(changed), strict=True)]
    )
    away = np.concatenate([np.float64(x) - y for x, y in zip(now, reference, strict=True)])
    assert terms == pytest.approx(coefficient * (away.mean() - away) / away.size, abs=1e-5)
    assert numbers["reference_kl"] >= -1e-9
    assert numbers["reference_kl_k1"] == pytest.approx(away.mean(), abs=1e-5)


def test_the_share_that_the_bounds_take_the_gradient_from():
    answers = [([0.5, -0.5, 0.0, 0.0], 1.0, PARENT), ([0.5, -0.5, -0.5, 0.0], -1.0, PARENT)]
    for loss, share in (("ppo", 3 / 8), ("cispo", 5 / 8), ("importance_sampling", 0.0)):
        groups, now, settings = material(answers, loss=loss)
        assert clipped_share(groups, now, settings) == share


def test_nothing_of_an_older_answer_is_bounded_before_the_step():
    groups, now, settings = material([([0.5, -0.5], 1.0, PARENT - 1), ([0.5, 0.5], -1.0, PARENT - 2)], loss="ppo")
    assert clipped_share(groups, now, settings) == 0.25
    weighed = corrected(groups, now, parent=PARENT, settings=settings)
    assert clipped_share(weighed.groups, now, settings) == 0.0
