"""Rows of answers that have ended, kept for prompts that begin like them.

Owns which rows are kept, found and forgotten; refuses to know models and requests. Invariants: a row is offered only
under the adapter that it was computed with, whose name is never given twice, so nothing stale can be found; what
is kept never exceeds the limit.
"""

# pyright: basic

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metaclaw.training.samplers.kv_rows import KvRow

_SHORTEST = 16  # tokens in common below which reading them anew is as quick
_MOST_ROWS = 512  # bounds the search of tiny models, of whose rows thousands would fit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    slot: int
    row: KvRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """``length`` tokens of ``row`` are those of the prompt. ``is_kept``: it was found here, not given as running."""

    row: KvRow
    length: int
    is_kept: bool


class PrefixCache:
    """Kept rows, least recently used first. ``max_places`` bounds what all of them have reserved; 0 keeps nothing.

    What is reserved counts, not what is used: memory that was used before, and huge pages, are all resident.
    """

    def __init__(self, max_places: int) -> None:
        self._max_places = max_places
        self._kept: list[_Kept] = []
        self.num_places = 0

    def find(self, slot: int, prompt: np.ndarray, running: list[KvRow]) -> Match | None:
        """The row that begins like ``prompt`` the longest, of the kept ones of ``slot`` and of ``running``."""
        if not self._max_places:
            return None
        best: Match | None = None
        own = [(kept.row, True) for kept in reversed(self._kept) if kept.slot == slot]
        for row, is_kept in (*own, *((row, False) for row in running)):
            length = row.common_length(prompt)
            if length >= _SHORTEST and (best is None or length > best.length):
                best = Match(row=row, length=length, is_kept=is_kept)
        if best is not None and best.is_kept:
            self._touch(best.row)
        return best

    def take(self, row: KvRow) -> None:
        """Remove ``row``: its memory is used for something else."""
        self._kept = [kept for kept in self._kept if kept.row is not row]
        self.num_places -= row.capacity

    def keep(self, slot: int, row: KvRow) -> None:
        """Keep ``row`` of an answer that ended, if it fits; what it makes superfluous is dropped."""
        if row.length < _SHORTEST or row.capacity > self._max_places:
            return
        tokens = np.frombuffer(row.tokens, dtype=np.int32)
        for kept in list(self._kept):
            if kept.slot == slot and kept.row.common_length(tokens) == kept.row.length:
                self.take(kept.row)
        self._kept.append(_Kept(slot=slot, row=row))
        self.num_places += row.capacity
        self.shrink(self._max_places)

    def shrink(self, max_places: int) -> None:
        """Forget what was not used for longest until at most ``max_places`` are kept."""
        while self._kept and (self.num_places > max_places or len(self._kept) > _MOST_ROWS):
            self.num_places -= self._kept.pop(0).row.capacity

    def drop(self, slot: int) -> None:
        """Forget everything of an adapter that is no longer served."""
        self._kept = [kept for kept in self._kept if kept.slot != slot]
        self.num_places = sum(kept.row.capacity for kept in self._kept)

    def _touch(self, row: KvRow) -> None:
        self._kept.sort(key=lambda kept: kept.row is row)  # stable: it moves to the end, the others stay as they are
