"""Takes away one scope filter at a time and runs the suite: what it does not notice is a hole in it.

    python -m tests.isolation.scopes [--only TEXT] [--workers N]

Owns a scratch copy of ``src`` for each worker and the verdicts; refuses to know what a filter is (``filters``) and what
is tested. The sources themselves are never touched. It ends with 1 when a filter can be taken away unnoticed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.isolation.filters import Filter, find_filters

ROOT = Path(__file__).parents[2]
_SUITE = "tests/isolation"
_OF_TRAINING = ("tests/training/api/test_tenants.py", "tests/training/samplers/test_prefix_cache.py")
_OF_MOVING = ("tests/cli/test_agents_command.py",)
_GREEN, _RED = 0, 1  # of pytest
# The file that is likeliest to notice first: most runs end there.
_FIRST = {
    "gateway/": "test_gateway.py",
    "identity": "test_names.py",
    "journal/": "test_learning.py",
    "memory/": "test_memory.py",
    "skills/": "test_skills.py",
    "training/": "test_training_server.py",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every filter; print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="filters whose line has this text")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="name the filters and try none")
    given = parser.parse_args(arguments)
    filters = [one for one in find_filters(ROOT / "src" / "metaclaw") if given.only in one.name]
    if given.list:
        print(*(f"{one.name}  ->  {one.without or 'nothing'}" for one in filters), sep="\n")
        return 0
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(given.workers) as pool:
        free: SimpleQueue[Path] = SimpleQueue()
        for number in range(given.workers):
            free.put(_copy(Path(scratch) / str(number)))
        if not _is_green(free, None):
            print("the suite is red with every filter in its place: nothing can be said")
            return 2
        verdicts = list(pool.map(lambda one: _tried(free, one), filters))
    unnoticed = [one for one, is_red in zip(filters, verdicts, strict=True) if not is_red]
    took_s = time.monotonic() - began_at
    print(f"{len(filters) - len(unnoticed)} of {len(filters)} filters are missed when they are gone ({took_s:.0f} s)")
    print(*(f"unnoticed: {one.name}" for one in unnoticed), sep="\n")
    return 1 if unnoticed else 0


def _copy(folder: Path) -> Path:
    shutil.copytree(ROOT / "src", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _is_green(free: SimpleQueue[Path], one: Filter | None) -> bool:
    source = free.get()
    try:
        return not _is_red(source, one)
    finally:
        free.put(source)


def _tried(free: SimpleQueue[Path], one: Filter) -> bool:
    source = free.get()
    path = source / "metaclaw" / one.file
    original = path.read_text(encoding="utf-8")
    try:
        path.write_text(one.taken_from(original), encoding="utf-8")
        is_red = _is_red(source, one)
    finally:
        path.write_text(original, encoding="utf-8")
        free.put(source)
    print(f"{'red  ' if is_red else 'GREEN'} {one.name}", flush=True)
    return is_red


def _is_red(source: Path, one: Filter | None) -> bool:
    file = "" if one is None else one.file
    first = next((f"{_SUITE}/{name}" for start, name in _FIRST.items() if file.startswith(start)), None)
    runs = [[first]] if first else []
    runs.append([_SUITE])
    if file.startswith("training/"):
        runs.append(list(_OF_TRAINING))
    if file in ("journal/agents.py", "memory/agents.py", "skills/owners.py"):
        runs.append(list(_OF_MOVING))
    return any(_pytest(source, tests) for tests in runs)


def _pytest(source: Path, tests: list[str]) -> bool:
    """Whether a test failed. Raises ``RuntimeError`` for anything else than a verdict: a crash is none."""
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", "--timeout", "120", *tests]
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (_GREEN, _RED):
        return done.returncode == _RED
    raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
