"""What the demonstration calls a failure, and which of them may be tried again."""

from __future__ import annotations

import pytest

from demo.evaluation import Change
from demo.job import MAX_NLL_RISE, Outcome, Verdict

NAMES = ("reward", "on topic", "relevance (nats/token)", "base model's NLL (nats/token)", "words in the answer")


def verdict(*, num_failed: int = 0, swaps: int = 3, **changed: float) -> Verdict:
    means = {"reward": 0.3, "nll": 0.0} | changed
    changes = {name: Change(before=0.0, after=0.0, low=-0.1, high=0.1) for name in NAMES}
    changes["reward"] = Change(before=0.3, after=0.6, low=means["reward"] - 0.1, high=1.0)
    nll = means["nll"]
    changes["base model's NLL (nats/token)"] = Change(before=1.0, after=1.0 + nll, low=nll, high=nll)
    return Outcome(changes, swaps).verdict(num_failed)


def test_a_run_that_learned_and_kept_its_text_is_good():
    assert verdict().is_good


@pytest.mark.parametrize("missed", [{"nll": MAX_NLL_RISE + 0.01}, {"reward": 0.1}])
def test_a_limit_on_drawn_answers_is_missed_and_no_fault(missed: dict[str, float]):
    told = verdict(**missed)
    assert (len(told.misses), told.faults) == (1, [])


@pytest.mark.parametrize("fault", [{"num_failed": 1}, {"swaps": 2}])
def test_what_the_programs_did_wrong_is_a_fault_and_no_chance(fault: dict[str, int]):
    told = verdict(**fault)  # pyright: ignore[reportArgumentType]
    assert (len(told.faults), told.misses) == (1, [])
