"""What happens at every request, counted in numbers of our own.

Owns counters and histograms that cost next to nothing to count with; refuses to know what they count. Invariant: the
page that they make is the one that the library's own would make.

The library's own look their labels up and take a lock at each count, a dozen of them a turn. These are counted on one
thread, the event loop's, and read on another.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally(Collector):
    """A counter with labels; those of ``known`` are there before anything is counted."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, known: Iterable[tuple[str, ...]] = ()
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], float] = dict.fromkeys(known, 0.0)

    def add(self, *labels: str, number: float = 1.0) -> None:
        """``number`` more."""
        self._counts[labels] = self._counts.get(labels, 0.0) + number

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, number in tuple(self._counts.items()):
            family.add_metric(labels, number)
        return [family]


class Times(Collector):
    """A histogram of seconds, in buckets up to each of ``bounds`` and one for the rest."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = (*bounds, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum_s += seconds

    def collect(self) -> Iterable[Metric]:
        number, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip(self._bounds, self._counts, strict=True):
            number += count
            buckets.append(("+Inf" if bound == math.inf else repr(float(bound)), number))
        return [HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum_s)]
