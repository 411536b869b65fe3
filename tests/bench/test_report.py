"""Means, intervals and differences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.bench.report import difference, interval, summary_of
from metaclaw.bench.results import Played, PlayedDay


def day(name: str, *scores: float | None, kind: str = "file_check", **more: bool) -> PlayedDay:
    rounds = [
        Played.model_validate({"round": f"r{number}", "type": kind, "score": score, **more})
        for number, score in enumerate(scores)
    ]
    return PlayedDay(day=name, session="s", rounds=tuple(rounds))


def test_what_says_nothing_is_counted_apart_and_is_no_zero() -> None:
    """PITFALLS B7: the report left the completed work out."""
    days = {"a": day("a", 1.0, None), "b": day("b", 1.0, is_idle=True), "c": day("c", 0.5, kind="multi_choice")}
    told = summary_of(days)
    assert (told["rounds"], told["graded"], told["not_gradable"], told["passed_before_any_work"]) == (4, 2, 1, 1)
    assert (told["completion"]["mean"], told["choice"]["mean"], told["accuracy"]["mean"]) == (1.0, 0.5, 0.75)
    assert told["by_day"] == {"a": 1.0, "c": 0.5}
    assert summary_of({})["accuracy"] is None


def test_two_runs_are_compared_round_by_round_in_what_both_have() -> None:
    """PITFALLS B7: no intervals, no pairs."""
    before = {name: day(name, 0.0, 1.0, 0.0) for name in "abcd"} | {"e": day("e", 1.0)}
    after = {name: day(name, 1.0, 1.0, None) for name in "abcd"} | {"f": day("f", 0.0)}
    told = difference(before, after)
    assert told["rounds"] == 8
    assert told["accuracy"] == {"mean": 0.5, "interval": (0.5, 0.5), "rounds": 8}
    assert told["choice"] is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=3, max_size=8))
def test_an_interval_holds_the_mean_of_days_that_are_alike_and_never_leaves_their_range(
    days: list[list[float]],
) -> None:
    found = interval(dict(enumerate(days)))  # type: ignore[arg-type]
    means = [sum(one) / len(one) for one in days]
    assert found is not None
    assert min(means) - 1e-9 <= found[0] <= found[1] <= max(means) + 1e-9


def test_the_interval_is_that_of_the_cluster_bootstrap() -> None:
    """Ten days of one round each, half right: the binomial's 2.5 and 97.5 % are 0.2 and 0.8."""
    assert interval({str(one): [float(one % 2)] for one in range(10)}) == (pytest.approx(0.2), pytest.approx(0.8))
    assert interval({"a": [1.0], "b": [0.0]}) is None, "two days say nothing of other days"
