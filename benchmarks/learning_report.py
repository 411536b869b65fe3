"""What a file of measurements says, with its uncertainty.

Owns the statistics and the table; refuses to know models. Invariant: an interval is over seeds alone (Student's t,
95 %), and a row with one seed has none; a difference to our row is taken between runs of one seed.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

BASE = "base"
# Two-sided 95 % of Student's t by degrees of freedom; beyond ten, the tenth is on the careful side.
_T = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    row: str
    seed: int
    samples: int
    held_out: float
    earned: float  # by all samples so far, on the average
    kl: float
    surprise: float
    general_nll: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds and half its interval, which is not a number for one seed."""

    value: float
    half: float

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if math.isnan(self.half) else f" ± {self.half:.3f}")


def measurements(path: Path) -> list[Measurement]:
    """All of ``path``; of two about the same moment of a run, the later."""
    if not path.exists():
        return []
    found = dict[tuple[str, int, int], Measurement]()
    for line in map(json.loads, path.read_text().splitlines()):
        one = Measurement(**{name: line.get(name, 0.0) for name in Measurement.__slots__})
        found[one.row, one.seed, one.samples] = one
    return list(found.values())


def mean_of(values: Sequence[float]) -> Mean:
    if not values:
        return Mean(math.nan, math.nan)
    spread = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(float(np.mean(values)), float(_T[min(len(values) - 1, len(_T) - 1)] * spread))


def samples_to(curve: Sequence[tuple[int, float]], target: float) -> float:
    """Where a curve of (samples, reward) first reaches ``target``, between two points on their line; or infinity."""
    for (before, low), (after, high) in pairwise(curve):
        if high >= target > low:
            return before + (after - before) * (target - low) / (high - low)
        if low >= target:
            return before
    return math.inf


def report(found: Sequence[Measurement], *, ours: str, target: float, samples: int) -> str:
    """A table of the rows whose runs reached ``samples``: the tuning seed's first, then the others'."""
    runs = _runs(found, samples)
    parts = list[str]()
    for title, is_tuning in (("seed 0, where learning rates are chosen", True), ("reported seeds", False)):
        chosen = {key: curve for key, curve in runs.items() if (key[1] == 0) == is_tuning}
        if chosen:
            parts.append(_table(title, chosen, ours=ours, target=target))
    return "\n\n".join(parts) or "nothing is finished"


Runs = dict[tuple[str, int], list[Measurement]]


def _runs(found: Sequence[Measurement], samples: int) -> Runs:
    """Finished runs, each with the base model's measurement of its seed at its start."""
    base = {one.seed: one for one in found if one.row == BASE}
    by_run: Runs = defaultdict(list)
    for one in found:
        if one.row != BASE and one.seed in base:
            by_run[one.row, one.seed].append(one)
    return {
        key: [base[key[1]], *sorted(curve, key=lambda one: one.samples)]
        for key, curve in by_run.items()
        if max(one.samples for one in curve) >= samples
    }


def _table(title: str, runs: Runs, *, ours: str, target: float) -> str:
    lines = [
        f"{title}; base model {mean_of([curve[0].held_out for curve in runs.values()]).value:.3f}",
        "| row | seeds | held-out reward over samples | mean of the curve | earned while learning | "
        f"samples to {target:g} | KL | surprise | forgotten | less ours: curve, earned, forgotten | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in dict.fromkeys(row for row, _ in runs):
        lines.append(_line(row, runs, ours=ours, target=target))
    return "\n".join(lines)


def _line(row: str, runs: Runs, *, ours: str, target: float) -> str:
    curves = {seed: curve for (name, seed), curve in runs.items() if name == row}
    points = defaultdict[int, list[float]](list)
    for curve in curves.values():
        for one in curve[1:]:
            points[one.samples].append(one.held_out)
    over = ", ".join(f"{at}: {mean_of(values)}" for at, values in sorted(points.items()) if len(values) == len(curves))
    reached = [samples_to([(one.samples, one.held_out) for one in curve], target) for curve in curves.values()]
    middle = float(np.median(reached))
    ends = [curve[-1] for curve in curves.values()]
    both = [seed for seed in curves if (ours, seed) in runs] if row != ours else []
    against = "-"
    if both:
        gains = [_area(curves[seed]) - _area(runs[ours, seed]) for seed in both]
        earnings = [curves[seed][-1].earned - runs[ours, seed][-1].earned for seed in both]
        losses = [_forgotten(curves[seed]) - _forgotten(runs[ours, seed]) for seed in both]
        against = f"{mean_of(gains)}, {mean_of(earnings)}, {mean_of(losses)}"
    cells = [
        row, len(curves), over, mean_of([_area(curve) for curve in curves.values()]),
        mean_of([end.earned for end in ends]),
        f"{sum(map(math.isfinite, reached))} of {len(reached)}, median {middle:.0f}",
        mean_of([end.kl for end in ends]),
        mean_of([curve[-1].surprise - curve[0].surprise for curve in curves.values()]),
        mean_of([_forgotten(curve) for curve in curves.values()]), against,
        f"{np.mean([end.cpu_s for end in ends]):.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _area(curve: Sequence[Measurement]) -> float:
    """The mean reward over the measurements after the first: high for who learns early."""
    return float(np.mean([one.held_out for one in curve[1:]]))


def _forgotten(curve: Sequence[Measurement]) -> float:
    return curve[-1].general_nll - curve[0].general_nll
