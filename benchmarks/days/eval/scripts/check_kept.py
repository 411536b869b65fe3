"""A file was changed, and what it was before lies beside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def problem(asked: argparse.Namespace) -> str | None:
    kept = asked.path.with_name(f"{asked.path.name}.orig")
    if not asked.path.is_file():
        return "it is not there any more"
    now = asked.path.read_text("utf-8", "replace")
    if asked.had in now:
        return f"it still says {asked.had!r}"
    missing = [text for text in asked.has if text not in now]
    if missing:
        return f"it does not say {missing[0]!r}"
    if not kept.is_file():
        return f"there is no {kept.name} beside it"
    return None if asked.had in kept.read_text("utf-8", "replace") else f"{kept.name} is not what it was before"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--had", required=True)
    parser.add_argument("--has", nargs="+", required=True)
    asked = parser.parse_args()
    said = problem(asked)
    print("OK" if said is None else f"{asked.path}: {said}")
    return said is not None


if __name__ == "__main__":
    sys.exit(main())
