"""A process that records what it read, exchange after exchange, over and over, until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from metaclaw.memory.store import Extraction, MemoryStore
from tests.memory.units import NOW, unit


def exchange(number: int) -> Extraction:
    units = tuple(unit(f"Fact {number} of kind {kind}.", turns=(f"turn-{number}",)) for kind in ("one", "two", "three"))
    return Extraction(exchange=f"x{number}", agent="main", session="s", turns=(f"turn-{number}",), units=units)


def main() -> None:
    with MemoryStore.open(Path(sys.argv[1])) as store:
        for number in range(100_000):
            store.record(exchange(number), now=NOW)
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
