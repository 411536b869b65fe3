"""``python -m demo``: play a user with a preference, let the policy learn it, and show whether it did."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from demo.job import Plan, Verdict, run
from demo.processes import ProgramError

QUICK = Plan(num_updates=10, answers_per_question=5)
FULL = Plan(num_updates=12, answers_per_question=5)


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer updates and answers, for CI")
    parser.add_argument("--keep", action="store_true", help="keep the home with its journals and logs, and print where")
    tries = "run up to N times while only limits on answers drawn at random are missed; never after a fault"
    parser.add_argument("--tries", type=int, default=1, metavar="N", help=tries)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing is left running
    plan = QUICK if arguments.quick else FULL
    try:
        for _ in range(arguments.tries):
            verdict = _once(plan, keep=arguments.keep)
            if verdict.is_good:
                return 0
            if verdict.faults:
                break
    except ProgramError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    return 1


def _once(plan: Plan, *, keep: bool) -> Verdict:
    home = Path(tempfile.mkdtemp(prefix="metaclaw-demo-"))
    is_kept = True  # of a run that went wrong, so that it can be looked into
    try:
        verdict = asyncio.run(run(plan, home))
        is_kept = keep or not verdict.is_good
        return verdict
    except KeyboardInterrupt:
        is_kept = keep
        raise
    finally:
        if is_kept:
            print(f"journals and logs: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
