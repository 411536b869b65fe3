"""How many tokens of prompts may be read beside running answers.

Owns what steps cost on this machine at this moment; refuses to know requests and rows. Invariant: while answers run,
a step that also reads is expected to take at most ``_STRETCH`` times one that does not, and ``_LONGEST`` times one that
nothing disturbs; or it reads the least, or so much that the tokens cost no more than reading anything at all does.

A fixed number of tokens is wrong on every other machine: 128 of them made steps of 192 ms last 670 ms. And what a step
takes now is not enough to go by: beside training it took 97 ms instead of 69, and 0.6 of 97 on top made gaps of 173.

On a GPU that anything is read costs a step much, and how many tokens next to nothing. Whoever takes it all for the
tokens' reads the least for ever: an H200 read 64 tokens in each step of 89 ms, 32 prompts of 512 in 19 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_STRETCH = 1.6
_LONGEST = 1.75  # the aim is that no gap is more than twice the usual one
_LEAST_SHARE = 0.15  # of a step: to be read where a plain one takes longer than that by itself
_FRESH = 0.2  # weight of the newest measurement
_DISTURBED = 0.001  # its weight for what a quiet step takes, when it took longer: training goes on for minutes
_SPIKE = 2.0  # a measurement counts at most this many times what was expected: a stall says nothing of the next step
_GROWTH = 1.5  # a chunk is at most this many times the last one: a step that was quick by chance proves little
_MANY = 64  # tokens that make the weights' reading a small part of a pass
_REFRESH = 12  # steps in a row that may read; then one does not, so that what a plain one costs stays known
_PROBE = 4  # tokens whose reading tells what reading anything costs: a chunk even where two prompts share them
_PROBE_AGAIN = 60  # steps that read
_LEAST_TOKENS = 0.05  # of what a step takes longer: the tokens' part, however little is left for them


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLimits:
    """Tokens of prompts in one step."""

    least: int
    most: int
    idle: int  # while no answer runs
    scored: int = 1 << 30  # of them, those all of whose logits are wanted


class Running(NamedTuple):
    """The running answers of a step."""

    num_rows: int
    num_places: int  # of all of them together: each token looks at what is before it


class Pace:
    """Chooses the chunk of the next step from what the last ones took."""

    def __init__(self, limits: ChunkLimits) -> None:
        self._limits = limits
        self._plain_s: dict[int, float] = {}  # by running rows
        self._quiet_s: dict[tuple[int, int], float] = {}  # a plain step when nothing disturbs it, by _size
        self._any_s: float | None = None  # what reading anything beside answers adds to a step
        self._token_s = 0.0  # and each token more
        self._least_token_s = 0.0  # what it takes in a large chunk alone, which is never less than that
        self._last_chunk = 0
        self._num_stretched = 0
        self._num_since_probe = 0

    def chunk(self, running: Running) -> int:
        """Tokens that the next step may read beside ``running``; 0 when it must not read."""
        if running.num_rows == 0:
            return self._limits.idle
        if self._expected_plain(running.num_rows) is None or self._num_stretched >= _REFRESH:
            return 0
        if self._any_s is None or self._num_since_probe >= _PROBE_AGAIN:
            return _PROBE
        if self._token_s == 0.0:
            return self._limits.least
        spare_s = max(self.spare_s(running) - self._any_s, self._any_s)
        affordable = _PROBE + int(spare_s / max(self._token_s, self._least_token_s))
        affordable = min(affordable, int(_GROWTH * self._last_chunk), self._limits.most)
        return max(self._limits.least, affordable)

    def spare_s(self, running: Running) -> float:
        """How much longer than a plain one the next step may take."""
        if running.num_rows == 0:
            return 1.0
        plain_s = self._expected_plain(running.num_rows) or 0.0
        quiet_s = self._quiet_s.get(_size(running), plain_s)
        return max(min(_STRETCH * plain_s, _LONGEST * quiet_s) - plain_s, _LEAST_SHARE * plain_s)

    def note(self, seconds: float, running: Running, num_read: int) -> None:
        """A step over ``running`` that read ``num_read`` tokens of prompts took ``seconds``."""
        num_rows = running.num_rows
        self._num_stretched = self._num_stretched + 1 if num_rows and num_read else 0
        if num_rows == 0:
            if num_read >= _MANY:
                self._least_token_s = _averaged(self._least_token_s or None, seconds / num_read)
            return
        if num_read == 0:
            self._plain_s[num_rows] = _averaged(self._plain_s.get(num_rows), seconds)
            quiet_s = self._quiet_s.get(_size(running))
            weight = _DISTURBED if quiet_s is not None and seconds > quiet_s else _FRESH
            self._quiet_s[_size(running)] = _averaged(quiet_s, seconds, weight)
            return
        nearest_s = self._expected_plain(num_rows)
        if nearest_s is not None:
            self._note_reading(max(seconds - nearest_s, 1e-6), num_read)

    def _note_reading(self, extra_s: float, num_read: int) -> None:
        if num_read <= _PROBE:
            self._any_s = _averaged(self._any_s, extra_s, weight=0.5)
            self._num_since_probe = 0
            return
        self._last_chunk = num_read
        self._num_since_probe += 1
        self._any_s = min(self._any_s or 0.0, extra_s)
        tokens_s = max(extra_s - self._any_s, _LEAST_TOKENS * extra_s)
        self._token_s = _averaged(self._token_s or None, tokens_s / (num_read - _PROBE))

    def _expected_plain(self, num_rows: int) -> float | None:
        if num_rows in self._plain_s:
            return self._plain_s[num_rows]
        fewer = [rows for rows in self._plain_s if rows < num_rows]
        # More rows take longer, so the next smaller number is the careful guess.
        return self._plain_s[max(fewer)] if fewer else None


def _size(running: Running) -> tuple[int, int]:
    """Steps of one size take about as long: conversations that grow are not taken for a disturbance."""
    return running.num_rows, running.num_places.bit_length()


def _averaged(known_s: float | None, seconds: float, weight: float = _FRESH) -> float:
    if known_s is None:
        return seconds
    return known_s + weight * (min(seconds, _SPIKE * known_s) - known_s)
