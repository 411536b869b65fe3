"""How the versions of an agent descend from each other.

Owns ancestry and distance; refuses to know weights and storage. Invariant: a distance counts updates along parents,
never numbers: after a rollback from 10 to 2 the next version is 11, and it is one update away from 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from metaclaw.journal.learning_records import BASE_VERSION, Version


class Lineage:
    """The tree of versions over the base model."""

    def __init__(self, parents: Mapping[int, int]) -> None:
        self._parents = parents

    @classmethod
    def of(cls, versions: Iterable[Version]) -> Lineage:
        return cls({version.version: version.parent for version in versions})

    def ancestors(self, version: int) -> list[int]:
        """``version``, its parent, and so on to the base model; raises ``KeyError`` for one that is not known."""
        chain = [version]
        while chain[-1] != BASE_VERSION:
            chain.append(self._parents[chain[-1]])
        return chain

    def distance(self, one: int, other: int) -> int | None:
        """The number of updates between two versions, over their common ancestor; ``None`` for one that is unknown."""
        if not {one, other} <= {BASE_VERSION, *self._parents}:
            return None
        steps = {version: step for step, version in enumerate(self.ancestors(one))}
        return next(up + steps[version] for up, version in enumerate(self.ancestors(other)) if version in steps)
