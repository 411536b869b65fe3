"""What is asked of the memory, and what is found.

Owns the records; refuses to know how anything is found. Invariant: a query says who asks, so that no search is ever
without an owner.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from metaclaw.memory.units import Kind, MemoryUnit

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuery:
    """``now`` in Unix seconds; ``min_score`` on the scale of ``Found.score``.

    A unit is visible when it is the agent's, and its scope is the agent, or this user, workspace or session. Recall
    sets ``min_trust``; a person who looks through the store finds all. ``with_history`` adds what no longer holds.

    Units of the spans ``during``, said in one or true in one, are preferred, those that no longer hold among them; when
    nothing else is asked, they alone are found. ``time_words`` are the words of the text that asked for a time: they
    may be found, but need not. ``is_of_the_past`` prefers what no longer holds.
    """

    text: str
    agent: str
    now: float
    user: str | None = None
    workspace: str | None = None
    session: str | None = None
    limit: int = 8
    min_score: float = 0.0
    min_trust: float = 0.0
    kinds: tuple[Kind, ...] = ()  # none: all
    with_history: bool = False
    during: tuple[Range, ...] = ()
    time_words: str = ""
    is_of_the_past: bool = False
    only_during: bool = False  # a condition, where it is a preference otherwise
    num_standing: int = 0  # of what stands whatever is asked, after what fits
    is_everything: bool = False  # of the agent, whatever the scope: for the person who owns the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A unit and how well it fits, 0 to about 1, with the parts that the score was made of."""

    unit: MemoryUnit
    score: float
    parts: Mapping[str, float] = field(default_factory=dict[str, float])


class Candidate(NamedTuple):
    """What is weighed of a unit that may be found, and how it was used. ``row`` is that by which it was asked for.

    Four times as many are weighed as are told, so a unit is read in full when it is told.
    """

    row: int
    id: str
    said_at: float
    confidence: float
    superseded_by: str | None
    true_until: float | None
    num_uses: int
    last_used_at: float | None


@dataclass(slots=True, kw_only=True)
class Fitting:
    """A candidate and how well it fits, as ``Found`` says it."""

    candidate: Candidate
    score: float
    parts: Mapping[str, float]


class Near(NamedTuple):
    """A candidate that is near to a question in meaning."""

    candidate: Candidate
    likeness: float


class ByMeaning(Protocol):
    """A question's meaning, ready to be compared with those of units."""

    min_likeness: float

    def near(self, connection: sqlite3.Connection, query: MemoryQuery, *, limit: int) -> list[Near]:
        """At most ``limit`` of the units that ``query`` may see, likest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Of what kind and about whom units are that somebody looks through; ``None`` is any."""

    kind: str | None = None
    user: str | None = None
    workspace: str | None = None
    session: str | None = None
    is_oldest_first: bool = False

    def condition(self) -> tuple[str, list[str], Literal["ASC", "DESC"]]:
        """What follows in the query, whose own values are the first two; and the order."""
        wanted = {"kind": self.kind, "user": self.user, "workspace": self.workspace, "session": self.session}
        given = {name: value for name, value in wanted.items() if value is not None}
        text = "".join(f" AND units.{name} = ?{number}" for number, name in enumerate(given, 3))
        return text, list(given.values()), "ASC" if self.is_oldest_first else "DESC"
