"""Amounts are whole cents with their currency, and are the right ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def problem(path: Path, wanted: dict[str, int]) -> str | None:
    try:
        entries = json.loads(path.read_text("utf-8", "replace"))
    except ValueError as error:
        return f"it is not JSON: {error}"
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return "it is not a list of objects"
    for word, cents in wanted.items():
        found = [entry for entry in entries if word in str(entry.get("name", "")).lower()]
        if len(found) != 1:
            return f"{len(found)} entries have {word!r} in their name, and one should"
        amount = found[0].get("amount_cents")
        if not isinstance(amount, int) or isinstance(amount, bool) or amount != cents:
            return f"the amount_cents of {word!r} is {amount!r}"
        if found[0].get("currency") != "EUR":
            return f"the currency of {word!r} is {found[0].get('currency')!r}"
    return None if len(entries) == len(wanted) else f"there are {len(entries)} entries, and should be {len(wanted)}"


def main() -> int:
    path = Path(sys.argv[1])
    wanted = {name: int(cents) for name, _, cents in (word.partition("=") for word in sys.argv[2:])}
    said = problem(path, wanted) if path.is_file() else "it is not there"
    print("OK" if said is None else f"{path}: {said}")
    return said is not None


if __name__ == "__main__":
    sys.exit(main())
