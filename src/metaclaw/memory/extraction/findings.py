"""What an extractor is given, and what it finds.

Owns the plain data; refuses to know stores and models. Invariant: the material holds nothing but what the user newly
said, what tools answered and what came of it; a finding quotes the words that it was found in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, Protocol

from metaclaw.memory.units import Kind, Scope

Source = Literal["user", "tool", "outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool answered within the exchange."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The new material of one exchange. ``said`` are the user's messages since the last answer, as they are.

    What of them may be read is known to ``own_statements``; all else is without secrets.
    """

    exchange: str
    agent: str
    session: str
    turns: tuple[str, ...]
    said: tuple[str, ...]
    said_at: float
    user: str | None = None
    workspace: str | None = None
    scope: Scope | None = None  # where the client wants all of it to stay
    results: tuple[ToolResult, ...] = ()
    outcomes: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()  # instructions and answers: what stands there was not said by the user
    recalled: tuple[str, ...] = ()  # what was put before the model in this session: it is known, however short it is
    num_secrets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to remember. ``subject`` names what has one value only, such as ``home``; else it is empty.

    ``is_standing`` says that the user wants it so whatever they ask.
    """

    kind: Kind
    text: str
    evidence: str
    source: Source = "user"
    confidence: float = 0.7
    subject: str = ""
    true_from: float | None = None
    true_until: float | None = None
    is_standing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found in one exchange, and what was dropped, by the reason."""

    findings: tuple[Finding, ...] = ()
    dropped: Counter[str] = field(default_factory=Counter[str])


class Extractor(Protocol):
    """Finds what to remember in an exchange."""

    @property
    def name(self) -> str: ...

    async def extract(self, material: Material) -> Found: ...
