"""How the exchanges of one update are dealt among its steps, and from where these are measured."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.learner.datums import Datum, DatumGroup, Likely, Span
from metaclaw.learner.stepping import Stepper, cut
from tests.fakes.trainer import FakeTrainer

ADVANTAGES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=24)


def group_of(advantages: list[float], temperature: float = 1.0) -> DatumGroup:
    data = tuple(
        Datum(
            tokens_T=np.arange(2), targets_T=np.arange(2), logprobs_T=np.zeros(2, np.float32),
            advantages_T=np.asarray([0.0, advantage], np.float32),
            spans=(Span(turn=str(number), version=1, start=1, stop=2),),
        )
        for number, advantage in enumerate(advantages)
    )  # fmt: skip
    return DatumGroup(loss="ppo", config={"temperature": temperature}, data=data)


@given(st.lists(ADVANTAGES, min_size=1, max_size=3), st.integers(1, 16))
@settings(max_examples=40)
def test_the_parts_of_an_update_hold_every_datum_once(advantages, steps):
    groups = [group_of(values, temperature=float(number)) for number, values in enumerate(advantages)]
    parts = cut(groups, steps)
    assert 1 <= len(parts) <= steps
    assert all(group.data for part in parts for group in part)
    found = [
        (group.config["temperature"], datum.spans[0].turn) for part in parts for group in part for datum in group.data
    ]
    assert sorted(found) == sorted(
        (group.config["temperature"], datum.spans[0].turn) for group in groups for datum in group.data
    )


@given(ADVANTAGES, st.integers(1, 6), st.booleans())
@settings(max_examples=60)
def test_no_part_is_better_or_worse_than_another_by_more_than_one_answer_is(advantages, steps, at_one_each):
    # Each answer at a temperature of its own, too: their worst were all in the first part.
    apart = [group_of([advantage], temperature=float(number)) for number, advantage in enumerate(advantages)]
    assert len(cut(apart, steps)) == min(steps, len(advantages))
    parts = cut(apart if at_one_each else [group_of(advantages)], steps)
    sums = [sum(float(datum.advantages_T[1]) for group in part for datum in group.data) for part in parts]
    if np.count_nonzero(np.asarray(advantages, np.float32)) % steps == 0:  # what teaches nothing is dealt last
        assert max(sums) - min(sums) <= max(advantages) - min(advantages) + 1e-5


def test_good_and_bad_answers_that_came_one_after_the_other_are_in_every_part():
    parts = cut([group_of([1.0] * 8 + [-1.0] * 8)], 4)
    assert [sum(float(datum.advantages_T[1]) for datum in part[0].data) for part in parts] == [0.0] * 4


@pytest.mark.anyio
async def test_what_an_update_is_measured_from_is_the_pass_that_weighed_it_whatever_was_dealt_and_masked():
    trainer, settings = FakeTrainer(), UpdateSettings(steps=3, passes=1, warmup_steps=0, max_kl=9.0)
    stepper = Stepper(trainer, settings)
    groups = [  # the targets 0 and 1; the second group's sampler disagrees with the trainer: all of it is masked
        group_of([0.3, -0.2, 0.1, 0.9, -0.8], temperature=0.5),
        group_of([1.0, -1.0], temperature=1.0),
    ]
    drawn = (await (await trainer.open(None)).forward(groups[:1])).logprobs
    data = tuple(replace(datum, logprobs_T=now) for datum, now in zip(groups[0].data, drawn, strict=True))
    groups[0] = replace(groups[0], data=data)
    run, seconds = await trainer.open(None), defaultdict[str, float](float)
    weighed = await stepper.weigh(run, groups, parent=1, seconds=seconds)
    assert len(weighed.masked) == 2
    unknown = [
        replace(group, data=tuple(replace(datum, now_T=None) for datum in group.data)) for group in weighed.groups
    ]
    trainer.calls.clear()
    reused = await stepper.step(run, weighed.groups, parent=1, rates=(0.1,) * 3, seconds=seconds)
    assert trainer.calls.count("forward") == 1
    again = await stepper.step(await trainer.open(None), unknown, parent=1, rates=(0.1,) * 3, seconds=seconds)
    assert trainer.calls.count("forward") == 3
    assert reused.numbers == again.numbers
    assert reused.numbers["kl"] > 0


@pytest.mark.anyio
async def test_what_weighs_nothing_is_passed_for_nothing_and_moves_nothing_else():
    trainer = FakeTrainer()
    stepper = Stepper(trainer, UpdateSettings(steps=1, passes=1, warmup_steps=0, max_kl=9.0))
    weights = list[np.ndarray]()
    for advantages in ([0.5, -0.25], [0.5, 0.0, -0.25, 0.0]):
        run, seconds = await trainer.open(None), defaultdict[str, float](float)
        groups = [group_of(advantages), group_of([0.0])]
        weighed = await stepper.weigh(run, groups, parent=9, seconds=seconds)  # drawn by older versions: not masked
        made = await stepper.step(run, weighed.groups, parent=9, rates=(0.1,), seconds=seconds)
        assert made.numbers["num_tokens"] == len(advantages) + 1, "what weighs nothing is measured all the same"
        assert trainer.sequences.pop() == 2
        weights.append(trainer.saved[(await run.save(str(len(weights)))).state_path])
    np.testing.assert_array_equal(*weights)


@pytest.mark.anyio
async def test_an_update_goes_through_its_parts_again_but_learns_what_is_likely_once():
    trainer, settings = FakeTrainer(), UpdateSettings(steps=2, passes=3, warmup_steps=0, max_kl=9.0)
    (group,) = [group_of([0.5, -0.25, 0.4, 0.0])]
    likely = Likely(targets_TK=np.asarray([[0, 1], [2, 3]]), weights_TK=np.full((2, 2), 0.1, np.float32))
    taught = replace(group, data=(*group.data[:3], replace(group.data[3], likely=likely)))
    run, seconds = await trainer.open(None), defaultdict[str, float](float)
    weighed = await Stepper(trainer, settings).weigh(run, [taught], parent=9, seconds=seconds)
    trainer.calls.clear()
    trainer.sequences.clear()
    rates = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    made = await Stepper(trainer, settings).step(run, weighed.groups, parent=9, rates=rates, seconds=seconds)
    assert trainer.calls.count("optim_step") == 6
    first, later = trainer.sequences[:3], trainer.sequences[3:]
    assert sorted(first) == [1, 1, 2], "three that weigh something, and the one of which the likely is learned"
    assert sorted(later) == [1, 1, 2, 2], "twice more those three"
    assert made.numbers["learning_rate"] == 0.6
    assert trainer.calls.count("forward") == 1


@pytest.mark.anyio
async def test_a_part_that_weighs_nothing_takes_no_step_again():
    trainer, settings = FakeTrainer(), UpdateSettings(steps=2, passes=2, warmup_steps=0, max_kl=9.0)
    run, seconds = await trainer.open(None), defaultdict[str, float](float)
    weighed = await Stepper(trainer, settings).weigh(run, [group_of([0.5, 0.0])], parent=9, seconds=seconds)
    made = await Stepper(trainer, settings).step(run, weighed.groups, parent=9, rates=(1, 2, 3, 4), seconds=seconds)
    assert trainer.calls.count("optim_step") == 3, "momentum alone would move on"
    assert made.numbers["learning_rate"] == 3
