"""Material as an exchange gives it."""

from __future__ import annotations

from datetime import UTC, datetime

from metaclaw.memory.extraction.findings import Finding, Material
from metaclaw.memory.extraction.rules import RuleExtractor
from metaclaw.memory.secrets import redact

SAID_AT = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()  # a Wednesday


def material(said: str, **changes) -> Material:
    _, num_secrets = redact(said)
    facts = {"exchange": "x", "agent": "main", "session": "s", "turns": ("t",), "said_at": SAID_AT}
    return Material(**{**facts, "said": (said,), "num_secrets": num_secrets, **changes})


def found(said: str, **changes) -> list[Finding]:
    return list(RuleExtractor().find(material(said, **changes)).findings)


def day(year: int, month: int, number: int) -> float:
    return datetime(year, month, number, tzinfo=UTC).timestamp()
