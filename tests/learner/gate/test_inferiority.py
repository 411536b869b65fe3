"""How often the comparison errs, and what it can see."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.config import GateSettings
from metaclaw.learner.gate.held_out import is_held_out
from metaclaw.learner.gate.inferiority import compare

GATE = GateSettings()
RUNS = 150  # 4,000 in the table of docs/gate.md


def outcome(chance: Random, *, better: float, worse: float) -> str:
    """One examination of a version whose answers win and lose with these chances, looked at as the gate does."""
    differences = list[float]()
    while len(differences) < GATE.max_replays:
        drawn = (chance.random() for _ in range(8))
        differences += [1.0 if one < better else -1.0 if one < better + worse else 0.0 for one in drawn]
        verdict = compare(differences, margin=GATE.margin, error=GATE.error)
        if verdict.outcome != "undecided":
            return verdict.outcome
    return "undecided"


def share(wanted: str, *, better: float, worse: float) -> float:
    return sum(outcome(Random(seed), better=better, worse=worse) == wanted for seed in range(RUNS)) / RUNS


def test_a_version_that_is_worse_by_the_margin_passes_at_most_as_often_as_stated():
    for better, worse in ((0.0, 0.25), (0.25, 0.5), (0.375, 0.625)):
        assert share("passes", better=better, worse=worse) <= GATE.error + 0.05, (better, worse)


def test_a_collapse_never_passes_and_a_harmless_version_nearly_always_does():
    assert share("passes", better=0.05, worse=0.85) == 0
    assert share("worse", better=0.05, worse=0.85) > 0.95
    assert share("passes", better=0.15, worse=0.15) >= 0.9
    assert share("passes", better=0.0, worse=0.0) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), max_size=30), st.randoms())
def test_the_order_of_the_comparisons_says_nothing_and_a_worse_one_never_helps(differences, chance):
    verdict = compare(differences, margin=0.25, error=0.1)
    shuffled = list(differences)
    chance.shuffle(shuffled)
    assert compare(shuffled, margin=0.25, error=0.1).evidence == pytest.approx(verdict.evidence)
    if differences:
        assert compare([-1.0, *differences[1:]], margin=0.25, error=0.1).evidence <= verdict.evidence * (1 + 1e-9)


def test_about_the_share_is_held_out_for_ever_and_repetitions_of_an_exchange_go_together():
    drawn = [is_held_out(f"ex-{number}-1", 0.1) for number in range(4000)]
    assert 0.08 < sum(drawn) / len(drawn) < 0.12
    assert drawn == [is_held_out(f"ex-{number}-2", 0.1) for number in range(4000)]
    assert all(is_held_out(f"ex-{number}-1", 0.3) for number, held_out in enumerate(drawn) if held_out)
    assert not any(is_held_out(f"ex-{number}", 0.0) for number in range(100))
