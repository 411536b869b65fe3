"""Runs of tokens: those that come again, and those that were in the prompt.

Owns counting them; refuses to know text. Invariant: an answer that is shorter than a run has none.
"""

from __future__ import annotations

from collections.abc import Sequence


def repeated_share(tokens: Sequence[int], length: int) -> float:
    """The share of the runs of ``length`` tokens that came before in ``tokens``."""
    runs = _runs(tokens, length)
    return (len(runs) - len(set(runs))) / len(runs) if runs else 0.0


def copied_share(tokens: Sequence[int], source: Sequence[int], length: int) -> float:
    """The share of the runs of ``length`` tokens that are in ``source`` too."""
    runs, there = _runs(tokens, length), set(_runs(source, length))
    return sum(run in there for run in runs) / len(runs) if runs else 0.0


def _runs(tokens: Sequence[int], length: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[at : at + length]) for at in range(len(tokens) - length + 1)]
