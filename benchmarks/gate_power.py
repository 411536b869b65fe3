"""What the gate and the watch after it can see, by simulation of their own tests.

``python -m benchmarks.gate_power [--runs 1000]`` prints the tables of docs/gate.md: how often a version passes whose
answers win and lose with given chances, and when a version is taken back whose share of right answers falls.
"""

from __future__ import annotations

import argparse
import statistics
from random import Random

from metaclaw.config import GateSettings
from metaclaw.learner.gate.decline import decline
from metaclaw.learner.gate.inferiority import compare
from metaclaw.skills.trial.sequential import Observation, capital_above

GATE = GateSettings()
ROUND = 8
WINS_AND_LOSSES = (
    (0.0, 0.0), (0.05, 0.05), (0.15, 0.15), (0.25, 0.25), (0.4, 0.4), (0.15, 0.25), (0.1, 0.35), (0.25, 0.5),
    (0.05, 0.6), (0.05, 0.85),
)  # fmt: skip
RIGHT_BEFORE = 0.7
RIGHT_AFTER = (0.7, 0.65, 0.5, 0.4, 0.2, 0.05)
LOOKS = (25, 50, 100, 150, 300)


def examined(chance: Random, better: float, worse: float) -> tuple[str, int]:
    differences = list[float]()
    while len(differences) < GATE.max_replays:
        drawn = [chance.random() for _ in range(ROUND)]
        differences += [1.0 if one < better else -1.0 if one < better + worse else 0.0 for one in drawn]
        outcome = compare(differences, margin=GATE.margin, error=GATE.error).outcome
        if outcome != "undecided":
            return outcome, len(differences)
    return "undecided", len(differences)


def rewards(chance: Random, right: float, count: int) -> list[float]:
    return [1.0 if chance.random() < right else -1.0 for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    print("wins  losses  passes  pairs (median)")
    for better, worse in WINS_AND_LOSSES:
        found = [examined(Random(seed), better, worse) for seed in range(runs)]
        share = sum(outcome == "passes" for outcome, _ in found) / runs
        print(f"{better:4.0%}  {worse:6.0%}  {share:6.1%}  {statistics.median(count for _, count in found):g}")
    print(f"right before {RIGHT_BEFORE:.0%}; taken back within", *LOOKS, "exchanges")
    for right in RIGHT_AFTER:
        seen = [0] * len(LOOKS)
        for seed in range(runs):
            chance = Random(seed)
            before, now = rewards(chance, RIGHT_BEFORE, 300), rewards(chance, right, 300)
            looks = range(5, 301, 5)
            first = next((n for n in looks if decline(now[:n], before, error=GATE.rollback_error).is_proven), None)
            seen = [count + (first is not None and first <= look) for count, look in zip(seen, LOOKS, strict=True)]
        print(f"{right:4.0%} ", *(f"{count / runs:6.1%}" for count in seen))
    print("a gain from 70 % to 75 % right is proven (5 % error) by the end of")
    for count in (50, 350, 1500):
        proven = 0
        for seed in range(runs):
            chance = Random(seed)
            pairs = zip(rewards(chance, 0.75, count), rewards(chance, 0.7, count), strict=True)
            proven += capital_above(Observation(value=(now - then) / 2) for now, then in pairs) >= 20
        print(f"{count} exchanges: {proven / runs:.1%}")


if __name__ == "__main__":
    main()
