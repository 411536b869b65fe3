"""How many tokens of prompts may be read beside running answers.

Owns what steps cost on this machine at this moment; refuses to know requests and rows. Invariant: while answers run,
a step that also reads is expected to take at most ``_STRETCH`` times one that does not, or reads ``least`` tokens.

A fixed number of tokens is wrong on every other machine: 128 of them made steps of 192 ms last 670 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

_STRETCH = 1.6
_FRESH = 0.2  # weight of the newest measurement
_SPIKE = 2.0  # a measurement counts at most this many times what was expected: a stall says nothing of the next step
_GROWTH = 1.5  # a chunk is at most this many times the last one: a step that was quick by chance proves little
_MANY = 64  # tokens that make the weights' reading a small part of a pass
_REFRESH = 12  # steps in a row that may read; then one does not, so that what a plain one costs stays known


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLimits:
    """Tokens of prompts in one step."""

    least: int
    most: int
    idle: int  # while no answer runs


class Pace:
    """Chooses the chunk of the next step from what the last ones took."""

    def __init__(self, limits: ChunkLimits) -> None:
        self._limits = limits
        self._plain_s: dict[int, float] = {}  # by running rows
        self._token_s = 0.0  # what a token read beside answers adds to a step
        self._least_token_s = 0.0  # what it takes in a large chunk alone, which is never less than that
        self._last_chunk = 0
        self._num_stretched = 0

    def chunk(self, num_rows: int) -> int:
        """Tokens that the next step may read beside ``num_rows`` running answers; 0 when it must not read."""
        if num_rows == 0:
            return self._limits.idle
        plain_s = self._expected_plain(num_rows)
        if plain_s is None or self._num_stretched >= _REFRESH:
            return 0
        if self._token_s == 0.0:
            return self._limits.least
        affordable = int((_STRETCH - 1) * plain_s / max(self._token_s, self._least_token_s))
        affordable = min(affordable, int(_GROWTH * self._last_chunk), self._limits.most)
        return max(self._limits.least, affordable)

    def spare_s(self, num_rows: int) -> float:
        """How much longer than usual the next step may take."""
        return (_STRETCH - 1) * (self._expected_plain(num_rows) or 0.0) if num_rows else 1.0

    def note(self, seconds: float, num_rows: int, num_read: int) -> None:
        """A step over ``num_rows`` answers that read ``num_read`` tokens of prompts took ``seconds``."""
        self._num_stretched = self._num_stretched + 1 if num_rows and num_read else 0
        if num_rows == 0:
            if num_read >= _MANY:
                self._least_token_s = _averaged(self._least_token_s or None, seconds / num_read)
            return
        expected_s = self._plain_s.get(num_rows)
        if num_read == 0:
            self._plain_s[num_rows] = _averaged(expected_s, seconds)
            return
        self._last_chunk = num_read
        nearest_s = self._expected_plain(num_rows)
        if nearest_s is not None:
            self._token_s = _averaged(self._token_s or None, max(seconds - nearest_s, 1e-6) / num_read)

    def _expected_plain(self, num_rows: int) -> float | None:
        if num_rows in self._plain_s:
            return self._plain_s[num_rows]
        fewer = [rows for rows in self._plain_s if rows < num_rows]
        # More rows take longer, so the next smaller number is the careful guess.
        return self._plain_s[max(fewer)] if fewer else None


def _averaged(known_s: float | None, seconds: float) -> float:
    if known_s is None:
        return seconds
    return known_s + _FRESH * (min(seconds, _SPIKE * known_s) - known_s)
