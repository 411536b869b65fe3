"""Numbers of things, as people say them.

Owns the plural; refuses to know what is counted. Invariant: one thing is never told as several.
"""

from __future__ import annotations

_IRREGULAR = {"copy": "copies", "memory": "memories"}


def counted(number: int, thing: str) -> str:
    """``number`` of ``thing``, which is given as of one: "1 file", "2 files", "1,000 files"."""
    return f"{number:,} {thing if number == 1 else _IRREGULAR.get(thing, thing + 's')}"
