"""Token sequences that share prefixes, laid out so that a shared prefix runs through the model once.

Owns which sequences are laid out together and where each of their positions lies; refuses to know targets, losses and
models. Invariant: whatever is shared, the tokens at a sequence's rows are exactly that sequence, and a row's ancestors
are exactly the tokens before it.

Sorted by their tokens, the sequences stand in depth-first order of the tree of their prefixes: each shares with the
one before it all that it shares with any earlier one. So a layout is the first sequence, then of each further one only
what differs from the one before.

Shapes: L rows of a layout, T positions of one sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Sharing(StrEnum):
    """What a model bears: nothing, sequences that continue one another, or prefixes that branch as well."""

    NONE = "none"
    CHAINS = "chains"
    TREES = "trees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One sequence of rows that holds all ``members``. Without branches each row's ancestors are all rows before it."""

    members: tuple[int, ...]  # indices of the sequences, in the order of their tokens
    rows: tuple[Ints, ...]  # of each member: the row of each of its positions
    tokens_L: Ints
    depths_L: Ints  # a row's position in every sequence that holds it
    branches: bool

    @property
    def length(self) -> int:
        return len(self.tokens_L)

    def visible_LL(self) -> npt.NDArray[np.bool_]:
        """Whether row i sees row j: j is i itself or one of its ancestors."""
        visible = np.tri(self.length, dtype=np.bool_)
        if self.branches:
            start = 0
            for rows in self.rows:
                end = max(start, int(rows[-1]) + 1)
                visible[start:end, :start] = False  # what earlier members brought is seen along this one's path only
                visible[start:end, rows[rows < start]] = True
                start = end
        return visible


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingBounds:
    """When sharing is worth it.

    ``pairs_per_token``: how many pairs of positions in attention cost as much as one token does elsewhere. A layout
    without branches computes half of its pairs, one with branches all of them, even those that its mask hides.
    """

    sharing: Sharing
    pairs_per_token: float
    max_rows: int  # of a layout with branches: its mask has the square of it

    def cost(self, *, rows: int, branches: bool) -> float:
        """In tokens through the linear layers."""
        return rows + rows * rows / self.pairs_per_token / (1 if branches else 2)

    def allow(self, rows: int, *, branches: bool) -> bool:
        return self.sharing is Sharing.TREES and rows <= self.max_rows if branches else True


@dataclass(slots=True)
class _Span:
    """Neighbours in the sorted order that are laid out together."""

    first: int
    last: int
    rows: int
    branches: bool


def plan_layouts(sequences: Sequence[Ints], bounds: SharingBounds) -> list[Layout]:
    """Lay out all ``sequences``, each in exactly one layout, sharing prefixes where that costs less."""
    order = sorted(range(len(sequences)), key=lambda i: (sequences[i].astype(">i8").tobytes(), i))
    if bounds.sharing is Sharing.NONE:
        return [_layout([index], [0], sequences) for index in order]
    shared = [0, *(_common(sequences[a], sequences[b]) for a, b in pairwise(order))]
    layouts: list[Layout] = []
    for span in _join_spans([len(sequences[index]) for index in order], shared, bounds):
        members = order[span.first : span.last + 1]
        layouts.append(_layout(members, [0, *shared[span.first + 1 : span.last + 1]], sequences))
    return layouts


def _join_spans(lengths: Sequence[int], shared: Sequence[int], bounds: SharingBounds) -> list[_Span]:
    """Join neighbours, those that share most first, as long as one layout is allowed and costs less than two.

    ``shared[i]`` tokens are common to the sequences i-1 and i.
    """
    # Of each sequence; kept right at both ends of every span.
    owner = [_Span(first=i, last=i, rows=length, branches=False) for i, length in enumerate(lengths)]
    for i in sorted(range(1, len(lengths)), key=lambda i: (-shared[i], i)):
        if shared[i] == 0:
            break
        left, right = owner[i - 1], owner[i]
        rows = left.rows + right.rows - shared[i]
        branches = left.branches or right.branches or shared[i] < lengths[i - 1]
        apart = sum(bounds.cost(rows=span.rows, branches=span.branches) for span in (left, right))
        if bounds.allow(rows, branches=branches) and bounds.cost(rows=rows, branches=branches) <= apart:
            left.last, left.rows, left.branches = right.last, rows, branches
            owner[left.first] = owner[left.last] = left
    joined: list[_Span] = []
    while not joined or joined[-1].last + 1 < len(lengths):
        joined.append(owner[joined[-1].last + 1 if joined else 0])
    return joined


def _layout(members: Sequence[int], shared: Sequence[int], sequences: Sequence[Ints]) -> Layout:
    rows: list[Ints] = []
    tokens: list[Ints] = []
    depths: list[Ints] = []
    start, branches = 0, False
    for index, common in zip(members, shared, strict=True):
        new = sequences[index][common:]
        path = rows[-1][:common] if rows else np.empty(0, np.int64)
        branches |= bool(rows) and common < len(rows[-1])
        rows.append(np.concatenate([path, np.arange(start, start + len(new))]))
        tokens.append(new)
        depths.append(np.arange(common, common + len(new)))
        start += len(new)
    return Layout(
        members=tuple(members), rows=tuple(rows), tokens_L=np.concatenate(tokens), depths_L=np.concatenate(depths),
        branches=branches,
    )  # fmt: skip


def _common(a: Ints, b: Ints) -> int:
    """How many tokens both begin with."""
    n = min(len(a), len(b))
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n
