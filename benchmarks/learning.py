"""How fast each recipe learns a user's taste, and what it forgets meanwhile, on a real small model.

    python -m benchmarks.learning [--rows ROW ...] [--seeds 1 2 3] [--samples 192] [--out FILE] [--report]

The taste is the demonstration's: answers that begin with one short sentence on the subject, graded from 0 to 1. A row
is a recipe (``learning_recipes``): ``ema_baseline/ppo/0.0003`` is ours, ``reference/0.0001`` that of
the reference system. Every row has the same questions, random numbers and number of samples; a run is one row with
one seed. Each measurement is a line of JSON in ``--out``; a program that is started again goes on after the finished
runs, so more seeds or rows are added by asking for them. Seed 0 is for choosing learning rates, the others count.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.learning_lab import BASE, Lab
from benchmarks.learning_recipes import ONCE_RATE, OUR_RATE, OURS, RATES, REFERENCE, recipe
from benchmarks.learning_report import Measurement, measurements, report
from benchmarks.learning_run import Run, divergence, general, held_out, line_of

SMOLLM2 = Path("~/.cache/metaclaw/models/SmolLM2-135M-Instruct").expanduser()
TUNING = tuple(name for rate in RATES for name in (f"{REFERENCE}/{rate:g}", f"ema_baseline/ppo/{rate:g}"))
FRESH = tuple(f"{advantage}/ppo/{OUR_RATE:g}" for advantage in ("leave_one_out", "batch_zscore"))
STALE = (f"{OURS}/stale", *(f"ema_baseline/{loss}/{ONCE_RATE:g}/stale" for loss in ("importance_sampling", "cispo")))
GROUPS = (f"group/ppo/{OUR_RATE:g}",)  # four answers to each question, so a quarter of the questions
TEACHERS = (f"ema_baseline/importance_sampling/{ONCE_RATE:g}/opd", f"{OURS}/self", f"{OURS}/self/rewards")
TUNING_SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    parser.add_argument("--rows", nargs="*", default=[OURS, *TUNING, *FRESH, *STALE, *GROUPS, *TEACHERS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--every", type=int, default=64, help="samples between two measurements")
    parser.add_argument("--target", type=float, default=0.55, help="the reward whose samples are counted")
    parser.add_argument("--out", type=Path, default=Path("learning.jsonl"))
    parser.add_argument("--report", action="store_true", help="only report what the file has")
    options = parser.parse_args()
    if not options.report:
        _measure(options)
    print(report(measurements(options.out), ours=OURS, target=options.target, samples=options.samples))


def _measure(options: argparse.Namespace) -> None:
    recipes = [recipe(name) for name in dict.fromkeys(options.rows)]
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(options.model, Path(folder))
        for seed in options.seeds:
            _base(options, lab, seed)
            for one in recipes:
                if not _is_done(measurements(options.out), one.name, seed, options.samples):
                    for line in _lines(options, Run(lab, one, seed)):
                        _write(options.out, line)


def _base(options: argparse.Namespace, lab: Lab, seed: int) -> None:
    if not _is_done(measurements(options.out), BASE, seed, 0):
        line = {"row": BASE, "seed": seed, "samples": 0, "updates": 0}
        numbers, answers = held_out(lab, None, seed)
        _write(options.out, line | numbers | divergence(lab, BASE, answers) | general(lab, BASE))


def _lines(options: argparse.Namespace, run: Run) -> Iterator[dict[str, object]]:
    began, next_at = (time.process_time(), time.monotonic()), options.every
    for used in run.steps():
        if used >= next_at:
            yield line_of(run, run.measured(is_end=used >= options.samples), began)
            next_at += options.every
        if used >= options.samples:
            return


def _is_done(found: list[Measurement], row: str, seed: int, samples: int) -> bool:
    return any(one.row == row and one.seed == seed and one.samples >= samples for one in found)


def _write(out: Path, line: dict[str, object]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    numbers = {key: value for key, value in line.items() if isinstance(value, int | float)}
    print(line["row"], " ".join(f"{key}={value:.4g}" for key, value in numbers.items()), flush=True)


if __name__ == "__main__":
    main()
