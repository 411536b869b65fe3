"""What a process and all that it started take.

Owns walking down ``/proc``; refuses to know limits. Invariant: a process that ends meanwhile counts for nothing, and
where there is no ``/proc`` nothing is known and nothing is counted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Resident memory (pages that several share count for each) and the number of processes."""

    memory_bytes: int
    processes: int


def footprint(pid: int, *, skip: int) -> Footprint:
    """Of ``pid`` and its descendants, without the first ``skip`` generations."""
    memory = processes = 0
    generation, depth = [pid], 0
    while generation:
        if depth >= skip:
            processes += len(generation)
            memory += sum(map(_resident_bytes, generation))
        generation, depth = [child for parent in generation for child in _children(parent)], depth + 1
    return Footprint(memory_bytes=memory, processes=processes)


def _children(pid: int) -> list[int]:
    children = list[int]()
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            children += map(int, (task / "children").read_text().split())
    except OSError:  # it has ended
        return children
    return children


def _resident_bytes(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0
