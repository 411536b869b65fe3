"""What the rounds say together.

Owns means, their intervals and the comparison of two runs; refuses to know how a round was graded. Invariants: rounds
that say nothing of the agent (nobody could grade them, or their check passed before any work) are counted apart and
never as a score; intervals are drawn over days, since the rounds of one day share its conversation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from metaclaw.bench.results import Played, PlayedDay

Json = dict[str, Any]

_DRAWS = 10_000
_MIN_DAYS = 3  # an interval over fewer would be a guess
_SEED = 20_260_317


def summary_of(days: Mapping[str, PlayedDay]) -> Json:
    """Scores from 0 to 1 with their intervals of 95 %, and what they took.

    ``accuracy`` is over all rounds, ``completion`` the share of work that was done, ``choice`` the mean of the
    questions; ``by_choosing_all`` is the accuracy of somebody who names every option and does no work.
    """
    rounds = [one for day in days.values() for one in day.rounds]
    counted = [one for one in rounds if one.counts]
    return {
        "days": len(days),
        "rounds": len(rounds),
        "graded": len(counted),
        "accuracy": _mean_of(days, lambda one: True),
        "completion": _mean_of(days, lambda one: one.type == "file_check"),
        "choice": _mean_of(days, lambda one: one.type == "multi_choice"),
        "by_choosing_all": fmean(one.by_choosing_all for one in counted) if counted else None,
        "passed_before_any_work": sum(one.is_idle for one in rounds),
        "not_gradable": sum(one.score is None for one in rounds),
        "cut": sum(one.is_cut for one in rounds),
        "turns": sum(one.turns for one in rounds),
        "tool_calls": sum(one.tool_calls for one in rounds),
        "tokens": sum(one.tokens for one in rounds),
        "by_day": {name: fmean(scores) for name, scores in _by_day(days, lambda one: True).items()},
    }


def difference(before: Mapping[str, PlayedDay], after: Mapping[str, PlayedDay]) -> Json:
    """``after`` minus ``before`` over the rounds that count in both, each with itself."""
    told: Json = {}
    for name, kind in (("accuracy", None), ("completion", "file_check"), ("choice", "multi_choice")):
        differences = _differences(before, after, kind)
        told[name] = _with_interval(differences)
    told["rounds"] = sum(map(len, _differences(before, after, None).values()))
    return told


def interval(days: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """95 % of the means over days drawn with replacement (the cluster bootstrap); ``None`` for less than three days."""
    if len(days) < _MIN_DAYS:
        return None
    sums = [(sum(values), len(values)) for values in days.values()]
    draw = random.Random(_SEED)
    means = list[float]()
    for _ in range(_DRAWS):
        drawn = draw.choices(sums, k=len(sums))
        means.append(sum(total for total, _ in drawn) / sum(number for _, number in drawn))
    means.sort()
    return means[int(0.025 * _DRAWS)], means[int(0.975 * _DRAWS) - 1]


def _mean_of(days: Mapping[str, PlayedDay], is_meant: Callable[[Played], bool]) -> Json | None:
    return _with_interval(_by_day(days, is_meant))


def _with_interval(by_day: Mapping[str, Sequence[float]]) -> Json | None:
    values = [value for one in by_day.values() for value in one]
    return {"mean": fmean(values), "interval": interval(by_day), "rounds": len(values)} if values else None


def _by_day(days: Mapping[str, PlayedDay], is_meant: Callable[[Played], bool]) -> dict[str, list[float]]:
    scores = {
        name: [one.score for one in day.rounds if one.counts and one.score is not None and is_meant(one)]
        for name, day in days.items()
    }
    return {name: found for name, found in scores.items() if found}


def _differences(
    before: Mapping[str, PlayedDay], after: Mapping[str, PlayedDay], kind: str | None
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name in before.keys() & after.keys():
        earlier = {one.round: one.score for one in before[name].rounds if one.counts and kind in (None, one.type)}
        for one in after[name].rounds:
            if one.counts and one.score is not None and (score := earlier.get(one.round)) is not None:
                found.setdefault(name, []).append(one.score - score)
    return found
