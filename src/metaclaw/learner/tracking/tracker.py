"""What is told to a program that draws curves of experiments.

Owns the protocol and what of an update is a number; refuses to know any such program. Invariant: nothing but numbers
and their names leaves, and the names are those of measurements: no prompt, no answer and no reason in words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from metaclaw.journal.learning_records import Update

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One update of ``agent``: ``step`` is its number, ``at`` when it ended, in Unix seconds."""

    agent: str
    step: int
    at: float
    numbers: Mapping[str, float]


class Tracker(Protocol):
    """Whoever draws the curves. Its calls may block."""

    def add(self, point: Point) -> None:
        """Take one point; those of an agent come in the order of their steps."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


def point_of(update: Update) -> Point:
    """The numbers of ``update``, and whether its version was taken."""
    numbers = dict(_numbers(update.metrics, ""))
    numbers["committed"] = float(update.state == "committed")
    return Point(
        agent=update.agent,
        step=update.id,
        at=update.finished_at or update.started_at,
        numbers=dict(sorted(numbers.items())),
    )


def _numbers(metrics: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in metrics.items():
        name = prefix + key
        if not _NAME.fullmatch(name):
            continue
        if isinstance(value, Mapping):
            yield from _numbers(cast("Mapping[str, Any]", value), f"{name}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value)
