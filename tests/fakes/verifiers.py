"""Verifiers for tests, as a user would write them: a function from an exchange to a score."""

from __future__ import annotations

from typing import Any


def share_of_lower_case(exchange: Any) -> float:
    """The share of the answer's characters that are lower-case letters; a tiny model can learn it in seconds."""
    answer = exchange.answer
    return sum("a" <= character <= "z" for character in answer) / max(1, len(answer))
