"""How many tokens recalled text takes.

Owns how the parts of a block add up; refuses to know who counts them. Invariant: a size is never below what the block
takes, as far as whoever counts can tell, so a budget is a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from metaclaw.chat.token_estimate import estimate_tokens

_SEAM = 1  # where two parts meet, a tokenizer may cut otherwise than at the ends of each


class Sizes(Protocol):
    """Sizes of texts in tokens."""

    def of(self, text: str) -> int: ...

    def of_block(self, parts: Sequence[str]) -> int:
        """That of the text which ``parts`` are together."""
        ...


class Measuring(Protocol):
    """Who measures for the model that an agent's turns go to. Never raises: without a count there is an estimate."""

    async def sizes(self, agent: str, texts: Sequence[str]) -> Sizes: ...


class EstimatedSizes:
    """For a model whose tokenizer nobody asks."""

    def of(self, text: str) -> int:
        return estimate_tokens(text)

    def of_block(self, parts: Sequence[str]) -> int:
        return estimate_tokens("".join(parts))  # a mixture of scripts is dearer than its parts


class CountedSizes:
    """As a tokenizer counted them; what it was not asked about is estimated."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def of(self, text: str) -> int:
        counted = self._counts.get(text)
        return estimate_tokens(text) if counted is None else counted

    def of_block(self, parts: Sequence[str]) -> int:
        return sum(self.of(part) for part in parts) + _SEAM * max(0, len(parts) - 1)


ESTIMATED = EstimatedSizes()
