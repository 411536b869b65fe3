"""Verifiers for tests, as a user would write them: a function from an exchange to a score."""

from __future__ import annotations

from typing import Any


def share_of_lower_case(exchange: Any) -> float:
    """The share of the answer's characters that are lower-case letters; a tiny model can learn it in seconds."""
    answer = exchange.answer
    return sum("a" <= character <= "z" for character in answer) / max(1, len(answer))


def case_of_its_agent(exchange: Any) -> float:
    """Opposite tastes: ``loud`` is to write capital letters (1, small ones -1), every other agent small ones."""
    loud = sum("A" <= character <= "Z" for character in exchange.answer)
    quiet = sum("a" <= character <= "z" for character in exchange.answer)
    lean = (loud - quiet) / max(1, loud + quiet)
    return lean if exchange.agent == "loud" else -lean
