"""``python -m demo``: play a user with a preference, let the policy learn it, and show whether it did."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from demo.job import Plan, run
from demo.processes import ProgramError

QUICK = Plan(num_updates=9, answers_per_question=3)
FULL = Plan(num_updates=10, answers_per_question=4)


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer updates and answers, for CI")
    parser.add_argument("--keep", action="store_true", help="keep the home with its journals and logs, and print where")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing is left running
    home = Path(tempfile.mkdtemp(prefix="metaclaw-demo-"))
    keep = True  # of a run that went wrong, so that it can be looked into
    try:
        succeeded = asyncio.run(run(QUICK if arguments.quick else FULL, home))
        keep = arguments.keep or not succeeded
        return 0 if succeeded else 1
    except ProgramError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        keep = arguments.keep
        print("interrupted")
        return 130
    finally:
        if keep:
            print(f"journals and logs: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
