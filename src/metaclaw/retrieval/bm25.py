"""BM25 over weighted words.

Owns the index and its formula; refuses to know what its documents are and which score is enough. Invariant: what was
added and removed before leaves no trace: an index equals one that is built anew of what it holds, to the last bit.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

# The usual constants.
_SATURATION, _LENGTH_SHARE = 1.2, 0.75


class Bm25Index:
    """Documents by key, each a bag of words with weights (mostly how often it holds them)."""

    def __init__(self) -> None:
        self._words: dict[str, frozenset[str]] = {}
        self._lengths: dict[str, float] = {}
        self._holders: dict[str, dict[str, float]] = defaultdict(dict)
        self._norms: dict[str, float] = {}  # of all documents, or empty: computed when first needed after a change

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, key: object) -> bool:
        return key in self._words

    def add(self, key: str, words: Mapping[str, float]) -> None:
        """Hold a document; one that has the same key is replaced."""
        self.remove(key)
        self._words[key] = frozenset(words)
        self._lengths[key] = math.fsum(words.values())
        for word, weight in words.items():
            self._holders[word][key] = weight

    def remove(self, key: str) -> None:
        """Hold a document no more; nothing happens when there is none with that key."""
        self._norms = {}
        for word in self._words.pop(key, ()):
            holders = self._holders[word]
            del holders[key]
            if not holders:
                del self._holders[word]
        self._lengths.pop(key, None)

    def num_holding(self, word: str) -> int:
        """How many documents have ``word``."""
        return len(self._holders.get(word, ()))

    def scores(self, words: Iterable[str], among: Collection[str] | None = None) -> dict[str, float]:
        """The score of each document that holds one of ``words``; of those in ``among``, where that is given."""
        if not self._norms:
            self._norms = self._computed_norms()
        found: dict[str, float] = defaultdict(float)
        for word in sorted(set(words)):  # sorted: sums of floats depend on their order
            holders = self._holders.get(word)
            if holders is None:
                continue
            rarity = math.log(1 + (len(self._words) - len(holders) + 0.5) / (len(holders) + 0.5)) * (_SATURATION + 1)
            for key in holders if among is None else among:
                weight = holders.get(key)
                if weight is not None:
                    found[key] += rarity * weight / (weight + self._norms[key])
        return dict(found)

    def best(self, words: Iterable[str], limit: int) -> list[tuple[str, float]]:
        """At most ``limit`` documents with their scores, best first, equal ones by key."""
        return heapq.nsmallest(limit, self.scores(words).items(), key=lambda scored: (-scored[1], scored[0]))

    def _computed_norms(self) -> dict[str, float]:
        if not self._lengths:
            return {}
        mean = math.fsum(self._lengths.values()) / len(self._lengths) or 1.0
        return {
            key: _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * length / mean)
            for key, length in self._lengths.items()
        }
