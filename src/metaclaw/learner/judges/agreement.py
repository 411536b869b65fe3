"""How far a judge agrees with what persons say outright.

Owns the arithmetic: a table of three classes, the share that agrees with Wilson's interval, and Cohen's kappa with its
interval (Fleiss, Cohen and Everitt 1969); refuses to know where scores come from. Invariant: what too few scores cannot
say is ``None``, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CLASSES = ("bad", "neutral", "good")
_NEUTRAL = 1 / 3  # between its negative and itself: thirds of the scale
_MIN_PAIRS = 10  # the error of kappa is that of many; of few it comes out as nothing
_Z = 1.959964  # of 95 %
Table = tuple[tuple[int, ...], ...]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """``table[i][j]`` counts what a person called class ``i`` and the judge class ``j``; intervals are of 95 %.

    ``kappa`` is the agreement beyond that of chance: 0 for a judge who guesses, 1 for one who always agrees.
    """

    num_pairs: int
    table: Table
    agreement: float | None
    agreement_interval: Interval | None
    kappa: float | None
    kappa_interval: Interval | None


def agreement_of(pairs: Sequence[tuple[float, float]]) -> Agreement:
    """Of the judge's and the person's scores of the same exchanges."""
    counts = [[0] * len(CLASSES) for _ in CLASSES]
    for judged, said in pairs:
        counts[_class_of(said)][_class_of(judged)] += 1
    return of_table(tuple(tuple(row) for row in counts))


def of_table(table: Table) -> Agreement:
    """Of a square table of counts."""
    total, same = sum(map(sum, table)), sum(table[place][place] for place in range(len(table)))
    kappa = _kappa(table, total) if total >= _MIN_PAIRS else None
    return Agreement(
        num_pairs=total,
        table=table,
        agreement=same / total if total else None,
        agreement_interval=wilson(same, total) if total else None,
        kappa=kappa and kappa[0],
        kappa_interval=kappa and kappa[1],
    )


def wilson(successes: int, total: int) -> Interval:
    """The interval of a share, which holds for few and for extreme ones too."""
    share, z2 = successes / total, _Z * _Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def _kappa(table: Table, total: int) -> tuple[float, Interval] | None:
    size = range(len(table))
    share = [[count / total for count in row] for row in table]
    rows = [sum(row) for row in share]
    columns = [sum(row[place] for row in share) for place in size]
    by_chance = sum(rows[place] * columns[place] for place in size)
    if math.isclose(by_chance, 1.0):
        return None  # both said the same thing always: agreement and chance cannot be told apart
    observed = sum(share[place][place] for place in size)
    kappa = (observed - by_chance) / (1 - by_chance)
    same = sum(share[one][one] * (1 - (rows[one] + columns[one]) * (1 - kappa)) ** 2 for one in size)
    other = (1 - kappa) ** 2 * sum(
        share[one][two] * (columns[one] + rows[two]) ** 2 for one in size for two in size if one != two
    )
    variance = (same + other - (kappa - by_chance * (1 - kappa)) ** 2) / (total * (1 - by_chance) ** 2)
    half = _Z * math.sqrt(max(0.0, variance))
    return kappa, (max(-1.0, kappa - half), min(1.0, kappa + half))


def _class_of(score: float) -> int:
    return 0 if score < -_NEUTRAL else 2 if score > _NEUTRAL else 1
