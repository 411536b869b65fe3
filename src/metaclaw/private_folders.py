"""Folders that nobody else reads.

Owns one way of making them; refuses to know what lies there. Invariant: whatever was there keeps its mode.
"""

from __future__ import annotations

from pathlib import Path


def make_private(folder: Path) -> None:
    """Make ``folder``, and what is missing above it, for its owner alone. Raises ``OSError``."""
    # ``mkdir(parents=True, mode=...)`` makes the last one so, and those above it for everybody.
    for one in reversed((folder, *folder.parents)):
        one.mkdir(mode=0o700, exist_ok=True)
