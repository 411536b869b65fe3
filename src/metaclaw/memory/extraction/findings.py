"""What an extractor is given, and what it finds.

Owns the plain data; refuses to know stores and models. Invariant: the material holds nothing but what the user newly
said, what tools answered and what came of it; a finding quotes the words that it was found in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Kind = Literal["episodic", "semantic", "preference", "project_state", "working_summary", "procedural"]
Source = Literal["user", "tool", "outcome"]
Reach = Literal["user", "workspace", "session"]

# How far each is believed: a person knows best what they want, and a web page may say anything.
TRUST: dict[Source, float] = {"user": 0.9, "tool": 0.5, "outcome": 0.4}
REACH: dict[Kind, Reach] = {
    "preference": "user",
    "semantic": "user",
    "episodic": "user",
    "procedural": "workspace",
    "project_state": "workspace",
    "working_summary": "session",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool answered within the exchange."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The new material of one exchange. ``said`` is the user's, without secrets and without what programs wrote."""

    exchange: str
    agent: str
    session: str
    user: str | None
    turns: tuple[str, ...]
    said: str
    said_at: float
    results: tuple[ToolResult, ...] = ()
    outcomes: tuple[str, ...] = ()
    elsewhere: tuple[
        str, ...
    ] = ()  # instructions, answers and recalled text: what stands there was not said by the user
    num_secrets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to remember. ``subject`` names what has one value only, such as ``home``; else it is empty."""

    kind: Kind
    text: str
    evidence: str
    source: Source = "user"
    confidence: float = 0.7
    subject: str = ""
    true_from: float | None = None
    true_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What was found in one exchange, and what was dropped, by the reason."""

    findings: tuple[Finding, ...] = ()
    dropped: Counter[str] = field(default_factory=Counter[str])


class Extractor(Protocol):
    """Finds what to remember in an exchange."""

    @property
    def name(self) -> str: ...

    async def extract(self, material: Material) -> Extraction: ...


def sentences_hold(evidence: str, texts: Sequence[str]) -> bool:
    """Whether ``evidence`` stands in one of ``texts``, whatever the white space and the case."""
    wanted = _plain(evidence)
    return bool(wanted) and any(wanted in _plain(text) for text in texts)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
