"""A note begins with its date and status, and says what it has to say."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

_FRONT = re.compile(r"\A---\n(.*?)\n---\n(.*)\Z", re.DOTALL)


def problem(text: str, asked: argparse.Namespace) -> str | None:
    found = _FRONT.match(text)
    if found is None:
        return "there is no front matter between two lines of three dashes"
    lines = (line.partition(":") for line in found[1].splitlines())
    front = {name.strip(): value.strip().strip("\"'") for name, _, value in lines}
    if front.get("date") != asked.date:
        return f"its date is {front.get('date', 'not there')}, and should be {asked.date}"
    if front.get("status") not in ([asked.status] if asked.status else ["draft", "final"]):
        return f"its status is {front.get('status', 'not there')}, and should be {asked.status or 'draft or final'}"
    missing = [word for word in asked.mentions if word.lower() not in found[2].lower()]
    return f"it does not mention {', '.join(missing)}" if missing else None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--date", required=True)
    parser.add_argument("--status")
    parser.add_argument("--mentions", nargs="*", default=[])
    asked = parser.parse_args()
    if not asked.path.is_file():
        print(f"there is no {asked.path}")
        return 1
    said = problem(asked.path.read_text("utf-8", "replace").replace("\r\n", "\n"), asked)
    print("OK" if said is None else f"{asked.path}: {said}")
    return said is not None


if __name__ == "__main__":
    sys.exit(main())
