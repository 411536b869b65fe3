"""Stretches of time, as seconds since the epoch.

Owns joining and searching them; refuses to know what they mean. Invariant: what ``joined`` returns is ordered, and no
two of its spans touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """From ``start`` up to, and without, ``end``."""

    start: float
    end: float


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same time in as few spans as possible; those that are empty are left out."""
    found: list[Span] = []
    for span in sorted(span for span in spans if span.start < span.end):
        if found and span.start <= found[-1].end:
            found[-1] = Span(start=found[-1].start, end=max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def span_at(spans: Sequence[Span], moment: float) -> Span | None:
    """The span that ``moment`` lies in."""
    return next((span for span in spans if span.start <= moment < span.end), None)


def first_long_enough(spans: Sequence[Span], *, after: float, at_least_s: float) -> Span | None:
    """What is left, after a moment, of the first span of which ``at_least_s`` are left."""
    left = (Span(start=max(span.start, after), end=span.end) for span in spans)
    return next((span for span in left if span.end - span.start >= at_least_s), None)
