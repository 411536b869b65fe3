"""What may be recalled, and who knows it.

Owns the plain data between the sources and the composer, and the slices of the sources that recall uses; refuses to
know how anything is found. Invariant: a candidate's section never changes, so that a block can be cut at its sections.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from metaclaw.journal.turns import MEMORY_ITEM, ItemKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that was found for a message, best first among its kind.

    ``alias`` is another name by which the same may be there already. ``is_fitting`` is false for what fell short of its
    source's threshold; what ``is_standing`` is told although it did. ``turns`` are those that it was learned from,
    ``words`` what it says, without what we write around it.
    """

    kind: ItemKind
    item: str
    score: float
    section: str
    alias: str = ""
    words: str = ""
    turns: frozenset[str] = frozenset()
    is_fitting: bool = True
    is_standing: bool = False

    @property
    def name(self) -> str:
        """What it is called among the items of a block."""
        return self.item if self.kind == "skill" else MEMORY_ITEM + self.item


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whom a turn is about, as far as the client says."""

    agent: str
    session: str
    user: str | None = None
    workspace: str | None = None
    memory_scope: str | None = None


class SkillView(Protocol):
    """The skills that an agent has at one moment."""

    def is_served(self, name: str) -> bool:
        """Whether a skill may be before the model."""
        ...

    async def found(self, text: str, message: bytes) -> Sequence[Candidate]:
        """What fits ``text``, best first, for the human message with this key."""
        ...


class SkillSource(Protocol):
    """Where skills come from."""

    async def view(self, agent: str) -> SkillView: ...


class MemorySource(Protocol):
    """Where memories come from. Neither method raises: without an answer there is nothing, or what was known last."""

    async def found(self, text: str, about: About, now: float) -> Sequence[Candidate]:
        """What fits ``text`` and may be told to whom it is about, best first; all of it counts as served now."""
        ...

    async def served(self, ids: Collection[str]) -> frozenset[str]:
        """Those of the memories that are neither forgotten nor distrusted."""
        ...
