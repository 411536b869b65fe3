"""What becomes of a canary, by how often it is right: simulated, with the tests and the settings of the gate.

    python -m benchmarks.canary_power --runs 200

Rewards are 1 or -1, one of the canary against one of what serves, which is right as often as ``SERVING`` says. The
table is in docs/gate.md.
"""

from __future__ import annotations

import argparse
from random import Random
from statistics import median

from metaclaw.config import GateSettings
from metaclaw.learner.gate.decline import decline
from metaclaw.learner.gate.inferiority import compare

SERVING = 0.7
RIGHT = (0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.2, 0.05)
MOST_PAIRS = 400
LOOK_EVERY = 2  # pairs; the job looks after each, which changes little and takes twice as long here


def outcome(right: float, settings: GateSettings, random: Random) -> tuple[str, int]:
    """How one canary ends, and after how many pairs."""
    canary, serving = list[float](), list[float]()
    for pairs in range(1, MOST_PAIRS + 1):
        canary.append(_reward(right, random))
        serving.append(_reward(SERVING, random))
        if pairs % LOOK_EVERY:
            continue
        if decline(canary, serving, error=settings.rollback_error).is_proven:
            return "withdrawn", pairs
        differences = [(own - other) / 2 for own, other in zip(canary, serving, strict=True)]
        compared = compare(differences, margin=settings.margin, error=settings.error)
        if compared.outcome != "undecided":
            return "serves" if compared.outcome == "passes" else "withdrawn", pairs
    return "undecided", MOST_PAIRS


def _reward(right: float, random: Random) -> float:
    return 1.0 if random.random() < right else -1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(f"| right (serving: {SERVING:.0%}) | serves | pairs (median) | nine in ten are decided within |")
    print("|---|---|---|---|")
    for right in RIGHT:
        random = Random(7)
        ends = [outcome(right, GateSettings(), random) for _ in range(runs)]
        promoted = [pairs for how, pairs in ends if how == "serves"]
        within = sorted(pairs for _, pairs in ends)[int(runs * 0.9)]
        shown = f"{median(promoted):g}" if promoted else ""
        print(f"| {right:.0%} | {len(promoted) / runs:.1%} | {shown} | {within} |", flush=True)


if __name__ == "__main__":
    main()
